//! The commands that a document shows, and what it says about each: pure.
//!
//! A fenced `sh` block is a step. The text before it names its hosts, where readers see it: "On host `b`", "On hosts `b` and
//! `c`", "On each host"; otherwise it runs on the first host. A comment right before the block says how it is run; a `text`
//! block right after it is what it prints. `every block:` in a comment anywhere is for all steps that have no comment of
//! their own.

/// One `sh` block.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Line of its fence.
    pub line: usize,
    pub script: String,
    pub how: How,
    /// What it prints.
    pub output: Option<Output>,
}

/// The `text` block after a step.
#[derive(Debug, PartialEq, Eq)]
pub struct Output {
    /// Line of its fence.
    pub line: usize,
    pub text: String,
}

/// What becomes of a step.
#[derive(Debug, PartialEq, Eq)]
pub enum How {
    /// It is run as written.
    Run(Terms),
    /// It is not, for this reason.
    NotRun(String),
    /// A test of its own does that: file and function.
    By(String, String),
}

/// How it is run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Names of the hosts; none: the first one.
    pub on: Vec<String>,
    /// Again and again, until it does what it must.
    pub soon: bool,
    pub status: i32,
    /// What a reader does before, such as editing a file.
    pub before: String,
}

/// A fenced block with the comments before it.
struct Block<'a> {
    line: usize,
    language: &'a str,
    text: String,
    notes: Vec<&'a str>,
    /// Nothing but blank lines since the block before.
    adjacent: bool,
    /// Hosts that the text before it names.
    hosts: Vec<String>,
}

/// What the document needs, by the comment that begins with `scene:`.
pub fn scene(text: &str) -> Vec<&str> {
    let words = text
        .lines()
        .filter_map(note)
        .find_map(|note| note.strip_prefix("scene:"));
    words.unwrap_or_default().split_whitespace().collect()
}

/// All steps of a document.
///
/// # Errors
/// A comment before a step that says nothing known, with its line.
pub fn steps(text: &str) -> Result<Vec<Step>, String> {
    let blocks = blocks(text);
    let usual = text
        .lines()
        .filter_map(note)
        .find_map(|note| note.strip_prefix("every block:"));
    let after = blocks.iter().skip(1).map(Some).chain([None]);
    let pairs = blocks
        .iter()
        .zip(after)
        .filter(|(block, _)| block.language == "sh");
    pairs
        .map(|(block, after)| {
            let output = after.filter(|after| after.adjacent && after.language == "text");
            let output = output.map(|after| Output {
                line: after.line,
                text: after.text.clone(),
            });
            let notes: Vec<&str> = if block.notes.is_empty() {
                usual.iter().map(|note| note.trim()).collect()
            } else {
                block.notes.clone()
            };
            let how =
                how(&notes, &block.hosts).map_err(|why| format!("line {}: {why}", block.line))?;
            Ok(Step {
                line: block.line,
                script: block.text.clone(),
                how,
                output,
            })
        })
        .collect()
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let (mut notes, mut adjacent, mut hosts) = (Vec::new(), false, Vec::new());
    let mut lines = (1..).zip(text.lines());
    while let Some((line, content)) = lines.next() {
        let indent = content.len() - content.trim_start().len();
        if let Some(language) = content.trim().strip_prefix("```") {
            let inner = lines
                .by_ref()
                .map(|(_, inner)| inner)
                .take_while(|inner| inner.trim() != "```");
            let text = inner
                .map(|inner| format!("{}\n", inner.get(indent..).unwrap_or_default()))
                .collect();
            let (notes, hosts) = (std::mem::take(&mut notes), std::mem::take(&mut hosts));
            blocks.push(Block {
                line,
                language,
                text,
                notes,
                adjacent,
                hosts,
            });
            adjacent = true;
        } else if let Some(note) = note(content) {
            let is_of_the_page = ["scene:", "every block:"]
                .iter()
                .any(|word| note.starts_with(word));
            notes.extend((!is_of_the_page).then_some(note));
        } else if !content.trim().is_empty() {
            (notes, adjacent) = (Vec::new(), false);
            hosts = hosts_named(content).unwrap_or(hosts);
        }
    }
    blocks
}

/// Returns the hosts that a line of text names, if it names any.
fn hosts_named(line: &str) -> Option<Vec<String>> {
    if line.contains("On each host") {
        return Some(vec!["all".to_owned()]);
    }
    let rest = ["On host `", "On hosts `"]
        .iter()
        .find_map(|begin| Some(line.split_once(begin)?.1))?;
    let rest = rest.split([',', ':', '.']).next().unwrap_or_default();
    Some(
        rest.trim_end_matches('`')
            .split("` and `")
            .map(str::to_owned)
            .collect(),
    )
}

fn note(line: &str) -> Option<&str> {
    Some(
        line.trim()
            .strip_prefix("<!--")?
            .strip_suffix("-->")?
            .trim(),
    )
}

fn how(notes: &[&str], hosts: &[String]) -> Result<How, String> {
    let mut terms = Terms {
        on: hosts.to_vec(),
        ..Terms::default()
    };
    for note in notes {
        if let Some(why) = note.strip_prefix("not run:") {
            return Ok(How::NotRun(why.trim().to_owned()));
        }
        if let Some(test) = note.strip_prefix("run by ") {
            let (file, function) = test
                .split_once(": ")
                .ok_or("a test is named as FILE: FUNCTION")?;
            return Ok(How::By(file.to_owned(), function.to_owned()));
        }
        if let Some(script) = note.strip_prefix("before:") {
            terms.before = format!("{}\n", script.trim());
            continue;
        }
        note.split(", ").try_for_each(|term| terms.add(term))?;
    }
    Ok(How::Run(terms))
}

impl Terms {
    fn add(&mut self, term: &str) -> Result<(), String> {
        let unknown = || format!("the comment {term:?} says nothing known about this block");
        match term.split_once(' ') {
            None if term == "soon" => self.soon = true,
            Some(("ends", status)) => {
                self.status = status
                    .strip_prefix("with ")
                    .and_then(|n| n.parse().ok())
                    .ok_or_else(unknown)?;
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
<!-- scene: etcd running -->
# Title

```sh
one
```

```text
1
```

Words. On hosts `b` and `c`, as root:

<!-- before: cd / -->
<!-- soon, ends with 3 -->
```sh
two
```

More words.

```text
no output
```

   <!-- not run: it takes a day -->
   ```sh
   three
     indented
   ```

<!-- run by tests/cli.rs: a_test -->
```sh
four
```
";

    fn terms(how: &How) -> &Terms {
        let How::Run(terms) = how else {
            panic!("{how:?}")
        };
        terms
    }

    #[test]
    fn each_block_has_its_comment_and_its_output() {
        assert_eq!(scene(DOCUMENT), ["etcd", "running"]);
        let [one, two, three, four] = <[Step; 4]>::try_from(steps(DOCUMENT).unwrap()).unwrap();
        assert_eq!(
            (one.line, one.script.as_str(), terms(&one.how)),
            (4, "one\n", &Terms::default())
        );
        assert_eq!(
            one.output,
            Some(Output {
                line: 8,
                text: "1\n".into()
            })
        );
        let want = Terms {
            on: vec!["b".into(), "c".into()],
            soon: true,
            status: 3,
            before: "cd /\n".into(),
        };
        assert_eq!((terms(&two.how), two.output), (&want, None));
        assert_eq!(three.how, How::NotRun("it takes a day".into()));
        assert_eq!(three.script, "three\n  indented\n");
        assert_eq!(four.how, How::By("tests/cli.rs".into(), "a_test".into()));
    }

    #[test]
    fn hosts_are_named_in_the_text() {
        for (text, hosts) in [
            ("On each host:", &["all"][..]),
            ("Block the port. On host `b`:", &["b"]),
            ("On hosts `a` and `c`, as root.", &["a", "c"]),
            ("On host `b`:\n\nNow look at it.", &["b"]),
            ("Then:", &[]),
        ] {
            let page = format!("{text}\n\n<!-- soon -->\n```sh\nx\n```\n");
            assert_eq!(terms(&steps(&page).unwrap()[0].how).on, hosts, "{text}");
        }
    }

    #[test]
    fn one_comment_may_be_for_all() {
        let page = "<!-- every block: not run: no machine -->\n```sh\nx\n```\n\n<!-- soon -->\n```sh\ny\n```\n";
        let hows: Vec<How> = steps(page)
            .unwrap()
            .into_iter()
            .map(|step| step.how)
            .collect();
        assert_eq!(hows[0], How::NotRun("no machine".into()));
        assert!(terms(&hows[1]).soon);
    }

    #[test]
    fn a_comment_that_says_nothing_known_is_refused() {
        for bad in ["sooner", "ends with x", "run by tests/cli.rs", "on b"] {
            let error = steps(&format!("<!-- {bad} -->\n```sh\nx\n```\n")).unwrap_err();
            assert!(error.starts_with("line 2: "), "{error}");
        }
    }
}
