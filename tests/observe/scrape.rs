//! Prometheus' text format, read strictly: what is not exactly as the format wants it fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// Samples of one scrape by name and labels, as they are written.
#[derive(Debug, Default)]
pub struct Scrape {
    pub samples: BTreeMap<String, f64>,
    /// Types by family.
    pub families: BTreeMap<String, String>,
}

impl Scrape {
    /// Reads a page.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n') && !text.contains('\r'));
        let (mut scrape, mut family, mut closed) =
            (Self::default(), String::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest
                    .split_once(' ')
                    .unwrap_or_else(|| panic!("no help: {line}"));
                assert!(
                    is_name(name) && !help.is_empty() && closed.insert(name.to_owned()),
                    "{line}"
                );
                family = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest
                    .split_once(' ')
                    .unwrap_or_else(|| panic!("no type: {line}"));
                assert!(
                    name == family && ["counter", "gauge", "histogram"].contains(&kind),
                    "{line}"
                );
                assert_eq!(
                    scrape.families.insert(name.to_owned(), kind.to_owned()),
                    None,
                    "{line}"
                );
            } else {
                scrape.sample(line, &family);
            }
        }
        scrape.check_histograms();
        scrape
    }

    fn sample(&mut self, line: &str, family: &str) {
        let (series, value) = line
            .rsplit_once(' ')
            .unwrap_or_else(|| panic!("no value: {line}"));
        let value: f64 = value
            .parse()
            .unwrap_or_else(|_| panic!("no number: {line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let kind = self
            .families
            .get(family)
            .unwrap_or_else(|| panic!("before its type: {line}"));
        let belongs = match kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|end| name == format!("{family}{end}")),
            "counter" => name == family && name.ends_with("_total"),
            _ => name == family && !name.ends_with("_total"),
        };
        assert!(is_name(name) && belongs, "{line}");
        let labels = labels
            .strip_suffix('}')
            .unwrap_or_else(|| panic!("labels: {line}"));
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (name, text) = label
                .split_once("=\"")
                .unwrap_or_else(|| panic!("label: {line}"));
            assert!(
                is_name(name) && text.ends_with('"') && !text.contains('\\'),
                "{line}"
            );
        }
        assert_eq!(
            self.samples.insert(series.to_owned(), value),
            None,
            "twice: {line}"
        );
    }

    fn check_histograms(&self) {
        for (family, _) in self
            .families
            .iter()
            .filter(|(_, kind)| *kind == "histogram")
        {
            let bucket = |series: &&String| series.starts_with(&format!("{family}_bucket"));
            let bound = |series: &str| {
                let text = series
                    .split_once("le=\"")
                    .and_then(|(_, rest)| rest.split_once('"'))
                    .unwrap()
                    .0;
                if text == "+Inf" {
                    f64::INFINITY
                } else {
                    text.parse().unwrap()
                }
            };
            let mut buckets: Vec<(f64, f64)> = self
                .samples
                .keys()
                .filter(bucket)
                .map(|series| (bound(series), self.samples[series]))
                .collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(
                buckets.windows(2).all(|two| two[0].1 <= two[1].1),
                "{family}: {buckets:?}"
            );
            let last = buckets.last().copied().unwrap();
            assert_eq!(
                last,
                (f64::INFINITY, self.get(&format!("{family}_count"))),
                "{family}"
            );
        }
    }

    /// The sample of exactly this series.
    #[track_caller]
    pub fn get(&self, series: &str) -> f64 {
        let value = self.samples.get(series);
        *value.unwrap_or_else(|| panic!("{series} is not among {:#?}", self.samples.keys()))
    }

    /// Whether there is a series of this name that has this label.
    pub fn has(&self, name: &str, label: Option<&str>) -> bool {
        self.samples.keys().any(|series| {
            let (own, labels) = series.split_once('{').unwrap_or((series, ""));
            own == name && label.is_none_or(|label| labels.contains(label))
        })
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[test]
#[should_panic(expected = "twice")]
fn a_series_that_comes_twice_is_refused() {
    Scrape::parse("# HELP a b.\n# TYPE a gauge\na 1\na 2\n");
}

#[test]
#[should_panic(expected = "before its type")]
fn a_sample_without_a_type_is_refused() {
    Scrape::parse("a 1\n");
}
