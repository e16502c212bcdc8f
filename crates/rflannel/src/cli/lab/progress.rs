//! Shows the progress of building a lab: on a terminal one line for each node, updated in place; otherwise one line for each step.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use crate::cli::terminal;
use lab::{Event, Report, Stage};

/// More lines may not fit on a terminal, and lines that have scrolled away cannot be redrawn.
const LIVE_HOSTS: u8 = 16;

pub(super) fn to_stdout(hosts: u8) -> Report {
    let live = terminal::stdout().is_live() && hosts <= LIVE_HOSTS;
    let rows = Mutex::new(Vec::new());
    Report::to(move |event| {
        let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
        let text = if live {
            redraw(&mut rows, &event)
        } else {
            line(&event)
        };
        // A closed pipe must not stop the work.
        let _ = io::stdout().write_all(text.as_bytes());
    })
}

fn line(event: &Event) -> String {
    format!("{:<4} {}\n", event.node, describe(&event.stage))
}

/// Moves the cursor to the first drawn line and draws all rows again.
fn redraw(rows: &mut Vec<Event>, event: &Event) -> String {
    let up = match rows.len() {
        0 => String::new(),
        drawn => format!("\x1b[{drawn}A"),
    };
    match rows.iter_mut().find(|row| row.node == event.node) {
        Some(row) => *row = event.clone(),
        None => rows.push(event.clone()),
    }
    let lines: String = rows
        .iter()
        .map(|row| format!("\x1b[2K{}", line(row)))
        .collect();
    up + &lines
}

fn describe(stage: &Stage) -> String {
    match stage {
        Stage::Booted(address) => format!("host up at {address}"),
        Stage::EtcdUp => "etcd answers".into(),
        Stage::FlanneldStarted => "flanneld started".into(),
        Stage::FlanneldReady(subnet) => format!("flanneld ready, subnet {subnet}"),
        Stage::PodUp(address) => format!("pod up at {address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(node: &str, stage: Stage) -> Event {
        Event {
            node: node.into(),
            stage,
        }
    }

    #[test]
    fn redraws_a_row_in_place() {
        let mut rows = Vec::new();
        assert_eq!(
            redraw(&mut rows, &event("e1", Stage::EtcdUp)),
            "\x1b[2Ke1   etcd answers\n"
        );
        let second = redraw(&mut rows, &event("h1", Stage::FlanneldStarted));
        assert_eq!(
            second,
            "\x1b[1A\x1b[2Ke1   etcd answers\n\x1b[2Kh1   flanneld started\n"
        );
        let third = redraw(
            &mut rows,
            &event("h1", Stage::FlanneldReady("172.30.1.1/24".into())),
        );
        assert!(
            third.starts_with("\x1b[2A")
                && third.ends_with("h1   flanneld ready, subnet 172.30.1.1/24\n")
        );
    }
}
