//! Any bytes: an accepted configuration has subnets to lease, all of them inside its network.

use flanneld::subnet::NetworkConfig;

pub fn run(json: &[u8]) {
    if let Ok(config) = NetworkConfig::parse(json) {
        assert!(!config.ranges.is_empty());
        for range in config.ranges.iter() {
            let last = range.subnet_count() - 1;
            for index in [0, last / 2, last] {
                assert!(range.subnet(index).is_some_and(|subnet| range.fits(subnet)));
            }
            assert_eq!(range.subnet(last + 1), None);
        }
    }
}
