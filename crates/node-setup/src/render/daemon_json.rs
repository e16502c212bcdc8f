//! Merges settings into docker's existing `daemon.json`. Pure.
//!
//! Other members keep their place and the exact text of their values.

use std::fmt::Write as _;

use serde_json::Value;

use flanneld::subnet::go_json::Object;

/// Settings that dockerd applies at `systemctl reload docker`, since 17.04.
const RELOADABLE: [&str; 2] = ["registry-mirrors", "max-concurrent-downloads"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) text: String,
    /// Whether dockerd must be restarted to apply the changes.
    pub(super) restart: bool,
}

/// Why settings cannot be merged.
#[derive(Debug)]
pub(super) struct Contradiction {
    pub(super) found: String,
    pub(super) fix: &'static str,
}

/// Merges `ours` into the file. Items of a list are added to the existing ones.
/// Fails if dockerd could not read the file, or for each existing value that contradicts and must not be changed.
pub(super) fn merge(
    base: Option<&str>,
    ours: &[(&str, Value)],
) -> Result<Merged, Vec<Contradiction>> {
    let text = base.filter(|text| !text.trim().is_empty()).unwrap_or("{}");
    let mut members = read(text).map_err(|why| vec![why])?;
    let (mut changed, mut conflicts) = (Vec::new(), Vec::new());
    for (name, value) in ours {
        let place = members.iter().position(|(key, _)| key == name);
        let before = place
            .and_then(|index| members.get(index))
            .map(|(_, json)| json.as_str());
        let after = match combined(before, value) {
            Ok(after) => after,
            Err(Contradiction { found, fix }) => {
                let found = format!("{name:?} {found}");
                conflicts.push(Contradiction { found, fix });
                continue;
            }
        };
        if before.is_some_and(|json| same(json, &after)) {
            continue;
        }
        changed.push(*name);
        let json = indented(&after);
        match place.and_then(|index| members.get_mut(index)) {
            Some((_, old)) => *old = json,
            None => members.push(((*name).to_owned(), json)),
        }
    }
    if !conflicts.is_empty() {
        return Err(conflicts);
    }
    let restart = changed.iter().any(|name| !RELOADABLE.contains(name));
    match (changed.is_empty(), base) {
        (true, Some(base)) => Ok(Merged {
            text: base.to_owned(),
            restart,
        }),
        _ => Ok(Merged {
            text: write(&members),
            restart,
        }),
    }
}

/// Returns the names of all members.
pub(super) fn names(base: Option<&str>) -> Result<Vec<String>, Contradiction> {
    let text = base.filter(|text| !text.trim().is_empty()).unwrap_or("{}");
    Ok(read(text)?.into_iter().map(|(name, _)| name).collect())
}

pub(super) fn value(base: Option<&str>, name: &str) -> Option<Value> {
    let members = read(base?).ok()?;
    let (_, json) = members.into_iter().find(|(key, _)| key == name)?;
    serde_json::from_str(&json).ok()
}

fn read(text: &str) -> Result<Vec<(String, String)>, Contradiction> {
    let wrong = |why: String| Contradiction {
        found: format!("{why}, with which dockerd does not start"),
        fix: "correct the file first",
    };
    if text.starts_with('\u{feff}') {
        return Err(wrong("begins with a byte order mark".into()));
    }
    let object = Object::parse(text.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    let members: Vec<(String, String)> = object
        .members()
        .map(|(name, raw)| (name.to_owned(), raw.get().to_owned()))
        .collect();
    for (index, (name, _)) in members.iter().enumerate() {
        if members
            .iter()
            .take(index)
            .any(|(earlier, _)| earlier == name)
        {
            return Err(wrong(format!("contains {name:?} twice")));
        }
    }
    Ok(members)
}

fn same(json: &str, value: &Value) -> bool {
    serde_json::from_str::<Value>(json).is_ok_and(|old| old == *value)
}

/// Returns the existing list with the new items, or the new value.
fn combined(before: Option<&str>, ours: &Value) -> Result<Value, Contradiction> {
    let (Some(before), Value::Array(ours)) = (before, ours) else {
        return Ok(ours.clone());
    };
    let Ok(Value::Array(mut items)) = serde_json::from_str(before) else {
        return Err(Contradiction {
            found: format!("is {before:.40} and not a list, with which dockerd does not start"),
            fix: "correct the file first",
        });
    };
    for item in ours.iter().filter_map(Value::as_str) {
        let mut texts = items.iter().filter_map(Value::as_str);
        if let Some(other) = texts.find(|there| *there != item && contradicts(there, item)) {
            return Err(Contradiction {
                found: format!("contains {other:?} where the plan needs {item:?}"),
                fix: "remove the value, or set cgroup-driver to the same driver",
            });
        }
        if !items.iter().any(|there| there.as_str() == Some(item)) {
            items.push(item.into());
        }
    }
    Ok(Value::Array(items))
}

/// Returns whether both are `NAME=value` with the same name and different values.
pub(super) fn contradicts(one: &str, other: &str) -> bool {
    let name = |text: &str| text.split_once('=').map(|(name, _)| name.to_owned());
    name(one).is_some() && name(one) == name(other) && !one.contains("://")
}

/// Formats a value in lines, indented by one level.
fn indented(value: &Value) -> String {
    format!("{value:#}").replace('\n', "\n  ")
}

fn write(members: &[(String, String)]) -> String {
    let mut out = String::from("{");
    for (index, (name, json)) in members.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(out, "{comma}\n  {}: {json}", Value::from(name.as_str()));
    }
    out + "\n}\n"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn ours() -> Vec<(&'static str, Value)> {
        vec![
            ("registry-mirrors", json!(["https://b"])),
            ("max-concurrent-downloads", json!(10)),
        ]
    }

    #[test]
    fn nothing_of_others_is_lost() {
        let base = "{\n  \"zeta\": {\"b\":1,  \"a\":2.50},\n  \"registry-mirrors\": [\"https://a\"],\n  \"alpha\": null\n}\n";
        let merged = merge(Some(base), &ours()).unwrap();
        let want = "{\n  \"zeta\": {\"b\":1,  \"a\":2.50},\n  \"registry-mirrors\": [\n    \"https://a\",\n    \"https://b\"\n  ],\n  \
                    \"alpha\": null,\n  \"max-concurrent-downloads\": 10\n}\n";
        assert_eq!(
            merged,
            Merged {
                text: want.into(),
                restart: false
            }
        );
        assert_eq!(
            merge(Some(want), &ours()).unwrap(),
            Merged {
                text: want.into(),
                restart: false
            }
        );
    }

    #[test]
    fn absent_and_empty_files_are_made() {
        for base in [None, Some(""), Some("\n"), Some("{}")] {
            let text = merge(base, &ours()).unwrap().text;
            assert!(
                text.starts_with("{\n  \"registry-mirrors\": [\n    \"https://b\"\n  ],")
                    && text.ends_with("10\n}\n"),
                "{text}"
            );
        }
        let compact = "{\"max-concurrent-downloads\":10,\"registry-mirrors\":[\"https://b\"]}";
        assert_eq!(merge(Some(compact), &ours()).unwrap().text, compact);
    }

    #[test]
    fn what_dockerd_reloads_needs_no_restart() {
        let driver = [("exec-opts", json!(["native.cgroupdriver=systemd"]))];
        assert!(merge(None, &driver).unwrap().restart);
        assert!(
            !merge(
                Some("{\"exec-opts\":[\"native.cgroupdriver=systemd\"]}"),
                &driver
            )
            .unwrap()
            .restart
        );
    }

    #[test]
    fn what_cannot_be_merged_is_refused() {
        let driver = json!(["native.cgroupdriver=systemd"]);
        for (base, want) in [
            ("[]", "not a JSON object"),
            ("{", "not a JSON object"),
            ("{\"a\":1,}", "not a JSON object"),
            ("// x\n{}", "not a JSON object"),
            ("{\"a\":NaN}", "not a JSON object"),
            ("{} {}", "not a JSON object"),
            ("\u{feff}{}", "byte order mark"),
            ("{\"a\":1,\"a\":2}", "\"a\" twice"),
            ("{\"exec-opts\":\"x\"}", "not a list"),
            (
                "{\"exec-opts\":[\"native.cgroupdriver=cgroupfs\"]}",
                "cgroup-driver",
            ),
        ] {
            let errors = merge(Some(base), &[("exec-opts", driver.clone())]).unwrap_err();
            let told = |error: &Contradiction| format!("{}; {}", error.found, error.fix);
            let has_words = errors.iter().any(|error| told(error).contains(want));
            assert!(has_words, "{base}: {errors:?}");
        }
    }

    proptest! {
        #[test]
        fn any_object_keeps_its_members(keys in prop::collection::btree_map("[a-z]{1,5}", "\\PC{0,8}", 0..6)) {
            let base = json!(keys).to_string();
            let text = merge(Some(&base), &ours()).unwrap().text;
            let after: Value = serde_json::from_str(&text).unwrap();
            for (key, value) in &keys {
                prop_assert_eq!(after[key].as_str(), Some(value.as_str()));
            }
            prop_assert_eq!(&merge(Some(&text), &ours()).unwrap().text, &text);
        }

        #[test]
        fn any_text_is_merged_or_refused(base in "\\PC{0,40}") {
            let _ = merge(Some(&base), &ours());
        }
    }
}
