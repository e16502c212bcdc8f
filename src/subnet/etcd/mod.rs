//! etcd v3 as the datastore.
