//! The files that the rules look at.

use std::fs;
use std::path::PathBuf;

/// The root of the repository.
pub fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", ".."].iter().collect()
}

/// A text file of this repository.
pub struct Source {
    /// Path from the root of the repository.
    pub path: String,
    pub text: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// All files below `dir` whose names end in one of `endings`.
    pub fn below(dir: &str, endings: &[&str]) -> Vec<Self> {
        let root = root();
        let mut found = Vec::new();
        let mut dirs = vec![root.join(dir)];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else if endings
                    .iter()
                    .any(|ending| path.to_string_lossy().ends_with(ending))
                {
                    let name = path
                        .strip_prefix(&root)
                        .unwrap()
                        .to_string_lossy()
                        .into_owned();
                    found.push(Self {
                        path: name,
                        text: fs::read_to_string(&path).unwrap(),
                    });
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// Every line with its number.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// Lines of what is shipped: no tests, no comments.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = if self.is_test() {
            0
        } else {
            start_of_tests(&self.text).unwrap_or(usize::MAX)
        };
        self.lines()
            .take_while(move |(number, _)| *number <= tests)
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(number, line)| (number, line.split(" // ").next().unwrap_or(line)))
    }

    /// Whether all of it is test code.
    pub fn is_test(&self) -> bool {
        let mut names = self.path.trim_end_matches(".rs").split('/');
        let is_source = self.path.starts_with("src/") || self.path.starts_with("crates/");
        !is_source || names.any(|name| ["tests", "fake"].contains(&name))
    }

    /// The path of the module: `src/kernel/plan.rs` is `kernel`, `plan`; `src/kernel/mod.rs` is `kernel`.
    pub fn module(&self) -> Vec<&str> {
        let path = match self.path.rsplit_once("src/") {
            Some((_, path)) => path.trim_end_matches(".rs"),
            None => self.path.trim_end_matches(".rs"),
        };
        path.split('/').filter(|part| *part != "mod").collect()
    }

    /// A complaint about one of its lines.
    pub fn at(&self, line: usize, rule: &str) -> String {
        format!("{}:{line}: {rule}", self.path)
    }

    /// Complaints about each line of code that contains one of `words`.
    pub fn without(&self, words: &[&str], rule: &str) -> Vec<String> {
        let bad = |line: &str| words.iter().find(|word| mentions(line, word)).copied();
        self.code()
            .filter_map(|(number, line)| Some(self.at(number, &format!("{}: {rule}", bad(line)?))))
            .collect()
    }
}

/// How many lines there are before the module of tests.
fn start_of_tests(text: &str) -> Option<usize> {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .windows(2)
        .position(|two| two[0] == "#[cfg(test)]" && two[1].starts_with("mod tests"))
}

/// Whether `word` stands in `line` and is not the end of a longer name.
pub fn mentions(line: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_name))
}
