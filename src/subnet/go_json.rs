//! Go's reading of JSON objects: keys match whatever their case, the last of several wins: pure.
