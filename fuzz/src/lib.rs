//! What each fuzz target does with its bytes. `scripts/fuzz` runs the targets under libFuzzer for as long as one likes; the test below runs
//! them on their committed corpus, and on mutations of it, with every other test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper fails its target"
)]

pub mod admin;
pub mod certificate;
pub mod firewall;
pub mod flags;
pub mod key;
pub mod kubeconfig;
pub mod lease_value;
pub mod net_config;
pub mod netlink;
pub mod node_setup;
pub mod packet;
pub mod request;
pub mod state;
pub mod subnet_env;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::sample::Index;
    use proptest::test_runner::{Config, TestRunner};

    use super::*;

    /// Mutations of the corpus of each target.
    const MUTATIONS: u32 = 2_000;

    macro_rules! targets {
        ($($name:ident)*) => {
            const TARGETS: &[&str] = &[$(stringify!($name)),*];
            $(
                #[test]
                fn $name() {
                    survives(stringify!($name), $name::run);
                }
            )*
        };
    }

    targets! { admin certificate firewall flags key kubeconfig lease_value net_config netlink node_setup packet request state subnet_env }

    /// Inserts, removes, and replaces pieces of one file of the corpus, or joins it to another.
    fn mutated(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..6),
            prop::sample::select(corpus.clone()),
            prop::sample::select(vec![
                b"\0".to_vec(),
                b"\"".to_vec(),
                b"99999999999999999999".to_vec(),
                "é".into()
            ]),
        ];
        let edit = (any::<Index>(), 0..8_usize, piece);
        let edits = prop::collection::vec(edit, 0..5);
        (prop::sample::select(corpus), edits).prop_map(|(mut bytes, edits)| {
            for (at, removed, piece) in edits {
                let from = at.index(bytes.len() + 1);
                let to = (from + removed).min(bytes.len());
                bytes.splice(from..to, piece);
            }
            bytes
        })
    }

    fn corpus(name: &str) -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(name);
        let files = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        files.map(|path| fs::read(path).unwrap()).collect()
    }

    #[test]
    fn every_target_has_its_program() {
        let manifest =
            fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
        for name in TARGETS {
            assert!(
                manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
                "{name}"
            );
        }
    }

    /// Runs a target on its corpus and on mutations of it.
    fn survives(name: &str, run: fn(&[u8])) {
        let corpus = corpus(name);
        corpus.iter().for_each(|bytes| run(bytes));
        let config = Config {
            cases: MUTATIONS,
            failure_persistence: None,
            ..Config::default()
        };
        let result = TestRunner::new(config).run(&mutated(corpus), |bytes| {
            run(&bytes);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
