//! Clocks that jump. `libfaketime` gives one daemon a clock of its own, which a file sets while it runs; a time namespace
//! gives it an uptime of its own.

use lab::{Lab, Signal};

use crate::outage::{Outage, outage};
use crate::{
    PATIENCE, SECONDS, Test, disconnect, holds, lease_id_of, log, must, options, own_key, start,
};

const LIBRARY: &str = "LD_PRELOAD=/usr/$LIB/faketime/libfaketimeMT.so.1";
const CLOCK: &str = "/run/clock";
/// By how much the clock of host 1 is wrong, set in [`CLOCK`]: the time of day alone.
const TIME_OF_DAY: [&str; 5] = [
    "env",
    LIBRARY,
    "FAKETIME_TIMESTAMP_FILE=/run/clock",
    "FAKETIME_NO_CACHE=1",
    "DONT_FAKE_MONOTONIC=1",
];
/// The same for all clocks, timers with them.
const ALL_CLOCKS: [&str; 4] = [
    "env",
    LIBRARY,
    "FAKETIME_TIMESTAMP_FILE=/run/clock",
    "FAKETIME_NO_CACHE=1",
];
/// Renews every 30 to 60 s.
const OFTEN: &str = "-subnet-lease-renew-margin=1439";

/// Lets the daemon of host 1 go on under another clock, which is right for now.
fn goes_on(lab: &mut Lab, way: &[&str], extra: &[&str]) -> Test {
    set(lab, "+0")?;
    lab.end_flanneld(1, Signal::KILL)?;
    lab.start_flanneld_under(1, way, extra)?
        .wait_ready(PATIENCE)
}

fn set(lab: &Lab, offset: &str) -> Test {
    lab.host(1).write(CLOCK, format!("{offset}\n"))
}

/// The year in which host 1 wrote its last line.
fn year(lab: &Lab) -> Option<i32> {
    log(lab.host(1))
        .lines()
        .last()?
        .split('-')
        .next()?
        .parse()
        .ok()
}

/// For how many more seconds etcd keeps the lease of host 1.
fn remaining(lab: &Lab) -> Option<u64> {
    let lease_id = lease_id_of(lab, &own_key(lab, 1)).ok()?;
    let answer = lab
        .etcd()
        .ok()?
        .ctl(["lease", "timetolive", &lease_id])
        .ok()?;
    answer
        .split("remaining(")
        .nth(1)?
        .split('s')
        .next()?
        .parse()
        .ok()
}

#[test]
fn the_time_of_day_may_jump_by_days_and_years() -> Test {
    let mut lab = start(options(2))?;
    let lab = &mut lab;
    goes_on(lab, &TIME_OF_DAY, &[])?;
    let today = year(lab).expect("lines begin with the time");
    let (key, value) = (own_key(lab, 1), lab.etcd()?.get(&own_key(lab, 1))?);
    for (offset, years) in [("+1h", 0), ("-3d", 0), ("+20y", 20), ("-20y", -20)] {
        let mut jump = Outage::begin("the time of day jumps", lab)?;
        set(lab, offset)?;
        // Certificates are checked by the new time.
        disconnect(lab.host(1))?;
        jump.was_silent();
        crate::peers::change(lab)?;
        jump.ends(lab)?;
        let told = year(lab).map_or(i32::MAX, |year| year - today - years);
        assert!((-1..=1).contains(&told), "{offset}: {}", log(lab.host(1)));
        lab.etcd()?.delete(&key)?;
        must("a deleted key is back", SECONDS, || {
            holds(lab, &key, &value)
        });
    }
    let saved = || {
        lab.host(1)
            .sh("stat -c %Y /run/flannel/state.json; grep -o '\"saved\":[0-9]*' /run/flannel/state.json")
    };
    must("the state file is written", PATIENCE, || {
        let text = saved().unwrap_or_default();
        let mut times = text
            .lines()
            .filter_map(|line| line.trim_start_matches("\"saved\":").parse::<i64>().ok());
        // By the wrong clock, twenty years before the right one.
        times
            .next()
            .zip(times.next())
            .is_some_and(|(right, told)| right - told > 19 * 365 * 86_400)
    });
    Ok(())
}

/// As on a machine whose clock has no battery, or runs into the next millennium: no certificate is good.
#[test]
fn a_time_at_which_no_certificate_is_valid_is_waited_out() -> Test {
    let mut lab = start(options(2))?;
    let lab = &mut lab;
    for (offset, says) in [("-56y", "not valid yet"), ("+2100y", "expired")] {
        goes_on(lab, &TIME_OF_DAY, &[])?;
        let earlier = log(lab.host(1)).len();
        outage(
            "the time is out of all certificates",
            lab,
            |lab| {
                set(lab, offset)?;
                // Both hosts are cut off, for both are watched.
                lab.hosts()
                    .iter()
                    .try_for_each(|host| disconnect(host.node()))
            },
            |lab| {
                must("it says what is wrong", SECONDS, || {
                    let said = &log(lab.host(1))[earlier..];
                    said.contains(says) && said.contains("clock")
                });
                crate::peers::change(lab)?;
                set(lab, "+0")
            },
        )?;
    }
    Ok(())
}

#[test]
fn a_clock_that_went_back_delays_no_renewal() -> Test {
    let mut lab = start(options(2))?;
    let lab = &mut lab;
    goes_on(lab, &TIME_OF_DAY, &[OFTEN])?;
    set(lab, "-3d")?;
    let mut last = remaining(lab);
    must(
        "the lease is renewed",
        std::time::Duration::from_secs(90),
        || {
            std::thread::sleep(std::time::Duration::from_secs(1));
            let before = std::mem::replace(&mut last, remaining(lab));
            before.is_some() && last > before
        },
    );
    Ok(())
}

/// As for a daemon that was stopped, or a machine whose clocks went on while it did not.
#[test]
fn half_a_day_may_pass_in_a_moment() -> Test {
    let mut lab = start(options(2))?;
    let lab = &mut lab;
    goes_on(lab, &ALL_CLOCKS, &[])?;
    let full = remaining(lab);
    must("some of the lease's time has passed", PATIENCE, || {
        remaining(lab) < full
    });
    let last = remaining(lab);
    let mut jump = Outage::begin("half a day in a moment", lab)?;
    set(lab, "+12h")?;
    must(
        "what was due since is done: the lease is renewed",
        PATIENCE,
        || remaining(lab) > last,
    );
    jump.was_silent();
    crate::peers::change(lab)?;
    jump.ends(lab)
}

#[test]
fn a_machine_may_be_up_for_a_second_or_for_years() -> Test {
    let mut lab = start(options(2))?;
    let uptime = lab.host(1).sh("cut -d. -f1 /proc/uptime")?;
    let just_up = format!("-{}", uptime.trim().parse::<i64>().unwrap_or_default());
    for offset in [just_up.as_str(), "315360000"] {
        let mut up = Outage::begin("another uptime", &mut lab)?;
        lab.end_flanneld(1, Signal::KILL)?;
        let way = [
            "unshare",
            "--time",
            "--monotonic",
            offset,
            "--boottime",
            offset,
            "--fork",
            "--kill-child",
        ];
        lab.start_flanneld_under(1, &way, &[])?
            .wait_ready(PATIENCE)?;
        up.was_silent();
        crate::peers::change(&lab)?;
        crate::peers::all_converged(&lab, crate::outage::RECOVERED)?;
    }
    Ok(())
}
