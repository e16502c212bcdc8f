//! Renders the options of Docker Engine, as a drop-in of the package's unit if there is one. Pure.

use serde_json::Value;

use super::dockerd_flags::{self, Given};
use super::flanneld::{DOCKER_KEY, DOCKER_OPTIONS};
use super::shipped::{self, DOCKER_DROP_IN};
use super::{Draft, command, daemon_json, document};
use crate::argv::{Word, decode, quote};
use crate::host::{DAEMON_JSON, SEARCH_PATH};
use crate::model::Release;
use crate::unit::Unit;
use crate::{Effect, Error, FileKind, Host, Model, Service};

const NAME: &str = "docker.service";
const REMOVE_FLAG: &str = "remove the flag from the unit or its environment file";
/// Options on dockerd's command line if its bridge has flannel's subnet.
const BRIDGE_FLAGS: [&str; 5] = ["bip", "ip-masq", "mtu", "bridge", "fixed-cidr"];
/// First release that drops packets from other hosts to containers.
const NO_DIRECT_ROUTING: Release = (28, 0);
/// Third number of the first release with an environment variable that disables this.
const NO_RAW_PATCH: u16 = 2;
/// First release with a flag that disables this. Later releases still have the variable.
const ALLOW_DIRECT_ROUTING: Release = (28, 2);

pub(super) fn render(draft: &mut Draft, model: &Model, host: &Host) -> Result<(), Error> {
    let base = host.daemon_json.as_deref();
    let vendor = host.docker_unit.as_deref().map(Unit::parse);
    let start = if model.is_document() {
        let unit = document::docker(model)?;
        draft.unit(Service::Docker, NAME, unit.clone());
        if vendor.is_some() {
            let text = "the tutorial's unit hides the unit of docker's package, including all later updates";
            draft.warn("docker-unit", text);
        }
        effective(&Unit::parse(&unit))
    } else {
        recommended(draft, model, vendor.as_ref())?
    };
    let given = dockerd_flags::read(&start, &host.docker_environment);
    let present = match daemon_json::names(base) {
        Ok(present) => present,
        Err(why) => {
            draft.conflict(DAEMON_JSON, why.found, why.fix);
            return Ok(());
        }
    };
    no_flag_twice(draft, &given, &present);
    if model.on_docker_bridge() {
        bridge_is_ours(draft, &given, &present);
        iptables_note(draft, base);
        direct_routing_notes(draft, model);
    }
    configuration(draft, model, base, &given);
    Ok(())
}

/// Writes the unit or the drop-in, and returns dockerd's command line.
fn recommended(
    draft: &mut Draft,
    model: &Model,
    vendor: Option<&Unit>,
) -> Result<Vec<Word>, Error> {
    let Some(vendor) = vendor else {
        let unit = whole_unit(model)?;
        let start = effective(&unit);
        draft.unit(Service::Docker, NAME, unit.to_string());
        return Ok(start);
    };
    draft.uses(Service::Docker, NAME, false);
    let own = vendor
        .values("Service", "ExecStart")
        .pop()
        .unwrap_or_default();
    if !model.on_docker_bridge() {
        return Ok(decode(&own));
    }
    let line = with_options(&own, model);
    let (head, starts) = if line == own {
        (PLAIN_HEAD.to_owned(), Vec::new())
    } else {
        (head(&own), vec![String::new(), line.clone()])
    };
    let unit = shipped::unit(DOCKER_DROP_IN, &head).with("Service", "ExecStart", &starts);
    let unit = on_bridge(unit, model);
    let path = shipped::target(DOCKER_DROP_IN);
    draft.file(
        (Service::Docker, FileKind::DropIn),
        path,
        unit.to_string(),
        Effect::Restart(NAME),
    );
    Ok(decode(&line))
}

const PLAIN_HEAD: &str = "docker0 gets this host's flannel subnet. The command line of docker's package already has $DOCKER_NETWORK_OPTIONS.";

fn head(own: &str) -> String {
    format!(
        "docker0 gets this host's flannel subnet. The command line is that of docker's package with flannel's options added. It was:\n{own}"
    )
}

/// Returns the package's command line with options added at its end.
fn with_options(own: &str, model: &Model) -> String {
    let has = |text: &str| own.contains(text);
    let mut line = own.to_owned();
    if has_flag(model) && !has("--allow-direct-routing") {
        line.push_str(" --allow-direct-routing");
    }
    if !has(&format!("${DOCKER_KEY}")) && !has(&format!("${{{DOCKER_KEY}}}")) {
        line.push_str(&format!(" ${DOCKER_KEY}"));
    }
    line
}

/// Returns a unit for a host without a package, with binaries unpacked by hand.
fn whole_unit(model: &Model) -> Result<Unit, Error> {
    let (mut words, mut flanneld) = (Vec::new(), "");
    if model.on_docker_bridge() {
        words.extend(has_flag(model).then(|| "--allow-direct-routing".into()));
        words.push(Word::Variable(DOCKER_KEY.into()));
        flanneld = " flanneld.service";
    }
    let start = command(&model.program("dockerd"), &words)?;
    let path = quote(&search_path(model));
    let text = format!(
        "# Docker Engine, installed without a package. `rflannel node-setup explain docker.service` explains this unit.\n\n\
         [Unit]\nDescription=Docker Application Container Engine\nDocumentation=https://docs.docker.com\n\
         Wants=network-online.target{flanneld}\n\
         After=network-online.target nss-lookup.target firewalld.service{flanneld}\n\n\
         # No sandbox: it would hide the host's mounts from container volumes.\n\
         [Service]\nType=notify\n# dockerd starts docker-proxy, containerd, and runc by name.\nEnvironment={path}\n\
         ExecStart={start}\nExecReload=/bin/kill -s HUP $MAINPID\nTimeoutStartSec=0\nRestart=always\nRestartSec=5\n\
         LimitNPROC=infinity\nLimitCORE=infinity\nTasksMax=infinity\nDelegate=yes\nKillMode=process\n\
         OOMScoreAdjust=-500\n\n[Install]\nWantedBy=multi-user.target\n"
    );
    let unit = Unit::parse(&text);
    if !model.on_docker_bridge() {
        return Ok(unit);
    }
    let unit = unit
        .with("Unit", "StartLimitIntervalSec", &["0".into()])
        .with("Service", "EnvironmentFile", &[DOCKER_OPTIONS.into()]);
    Ok(on_bridge(unit, model))
}

/// Returns PATH with each directory once.
fn search_path(model: &Model) -> String {
    let own = model.dirs.bin.to_string_lossy();
    let others = SEARCH_PATH.into_iter().filter(|dir| *dir != own);
    let dirs: Vec<&str> = std::iter::once(own.as_ref()).chain(others).collect();
    format!("PATH={}", dirs.join(":"))
}

/// Returns whether this dockerd lets packets from other hosts pass.
fn routes_directly(model: &Model) -> bool {
    model
        .docker
        .is_some_and(|docker| docker < NO_DIRECT_ROUTING)
}

/// Returns whether dockerd has the flag that allows direct routing.
fn has_flag(model: &Model) -> bool {
    model
        .docker
        .is_some_and(|docker| docker >= ALLOW_DIRECT_ROUTING)
}

/// Adds what the options file and recent releases need to a unit or a drop-in. The variable and the rule are harmless for
/// releases that do not need them.
fn on_bridge(unit: Unit, model: &Model) -> Unit {
    let unit = if model.engine.wait {
        waiting(unit)
    } else {
        unit
    };
    if routes_directly(model) {
        return unit;
    }
    let rule = format!(
        "DOCKER-USER {} -o docker0 -j ACCEPT",
        model.from_other_pods()
    );
    let script = quote(&format!("iptables -w -C {rule} || iptables -w -I {rule}"));
    let accept = format!("-/bin/sh -c {script}");
    let unit = unit.with("Service", "ExecStartPost", &[accept]);
    if has_flag(model) {
        return unit;
    }
    let variable = "DOCKER_INSECURE_NO_IPTABLES_RAW=1";
    unit.and("Service", "Environment", variable)
}

/// Makes the start wait for the file, which is read again for the command itself.
fn waiting(unit: Unit) -> Unit {
    let script = format!("until test -s {DOCKER_OPTIONS}; do sleep 1; done");
    let wait = format!("/bin/sh -c {}", quote(&script));
    let optional = format!("-{DOCKER_OPTIONS}");
    unit.with("Service", "EnvironmentFile", &[optional])
        .with("Service", "ExecStartPre", &[wait])
        .with("Service", "TimeoutStartSec", &["0".into()])
}

fn effective(unit: &Unit) -> Vec<Word> {
    unit.values("Service", "ExecStart")
        .pop()
        .map(|line| decode(&line))
        .unwrap_or_default()
}

/// Reports flags that are also in the file, with which dockerd does not start.
fn no_flag_twice(draft: &mut Draft, given: &[Given], present: &[String]) {
    for key in present {
        if let Some(given) = given.iter().find(|given| given.is(key)) {
            let found = format!(
                "{key:?} is also on dockerd's command line ({}), so dockerd does not start",
                given.flag
            );
            draft.conflict(DAEMON_JSON, found, "remove the setting from this file");
        }
    }
}

fn bridge_is_ours(draft: &mut Draft, given: &[Given], present: &[String]) {
    for key in present
        .iter()
        .filter(|key| BRIDGE_FLAGS.contains(&key.as_str()))
    {
        let found = format!("{key:?} contradicts flannel, which sets subnet, MTU, and masquerade");
        draft.conflict(DAEMON_JSON, found, "remove the setting from this file");
    }
    for flag in given
        .iter()
        .filter(|given| BRIDGE_FLAGS.iter().any(|key| given.is(key)))
    {
        let found = format!(
            "{} on dockerd's command line contradicts flannel, which sets subnet, MTU, and masquerade",
            flag.flag
        );
        draft.conflict(NAME, found, REMOVE_FLAG);
    }
}

fn iptables_note(draft: &mut Draft, base: Option<&str>) {
    if daemon_json::value(base, "iptables") == Some(Value::Bool(false)) {
        let text = "daemon.json has \"iptables\": false: docker publishes no ports, and only flanneld's rules masquerade and forward \
                    for containers";
        draft.warn("docker-iptables", text);
    }
}

fn direct_routing_notes(draft: &mut Draft, model: &Model) {
    if routes_directly(model) {
        return;
    }
    draft.warn(
        "docker-direct-routing",
        "Docker Engine 28 and later drop packets from other hosts to containers; docker's unit allows them on flannel's devices. \
         With --firewall-backend=nftables that is not possible (there is no DOCKER-USER): use pod-network = \"cni\"",
    );
    if model.docker == Some(NO_DIRECT_ROUTING)
        && model.docker_patch.is_none_or(|patch| patch < NO_RAW_PATCH)
    {
        let text = "Docker Engine 28.0.0 and 28.0.1 cannot allow direct routing, so pods of other hosts are not \
                    reached. Install 28.0.2 or later, and set docker-version to its three numbers";
        draft.warn("docker-28.0", text);
    }
}

/// Returns the desired settings of daemon.json.
fn wanted(model: &Model) -> Vec<(&'static str, Value)> {
    let mut wanted: Vec<(&str, Value)> = Vec::new();
    if !model.engine.mirrors.is_empty() {
        wanted.push(("registry-mirrors", model.engine.mirrors.clone().into()));
    }
    if let Some(count) = model.engine.downloads {
        wanted.push(("max-concurrent-downloads", count.into()));
    }
    if let Some(driver) = &model.kube.cgroup_driver
        && model.has(Service::Kubelet)
    {
        let option = format!("native.cgroupdriver={driver}");
        wanted.push(("exec-opts", vec![option].into()));
    }
    wanted
}

fn configuration(draft: &mut Draft, model: &Model, base: Option<&str>, given: &[Given]) {
    let mut ours = wanted(model);
    ours.retain(|(key, value)| !left_to_flags(draft, key, value, given));
    if ours.is_empty() {
        return;
    }
    let kind = FileKind::Merged {
        base: base.map(str::to_owned),
    };
    match daemon_json::merge(base, &ours) {
        Ok(merged) => {
            let effect = if merged.restart {
                Effect::Restart(NAME)
            } else {
                Effect::Reload(NAME)
            };
            draft.file((Service::Docker, kind), DAEMON_JSON, merged.text, effect);
        }
        Err(conflicts) => {
            conflicts
                .into_iter()
                .for_each(|why| draft.conflict(DAEMON_JSON, why.found, why.fix));
            // The unchanged text, so that a comparison of the files does not show it as changed.
            let text = base.unwrap_or_default().to_owned();
            draft.file((Service::Docker, kind), DAEMON_JSON, text, Effect::None);
        }
    }
    if daemon_json::value(base, "live-restore") == Some(Value::Bool(true))
        && model.on_docker_bridge()
    {
        let text = "daemon.json has live-restore: containers that survive a change of the subnet keep their old addresses; drain \
                    the node before flannel's subnet changes";
        draft.warn("docker-live-restore", text);
    }
}

/// Returns whether the command line has the option. Then the file must not have it, and the command line must have the same value.
fn left_to_flags(draft: &mut Draft, key: &str, value: &Value, given: &[Given]) -> bool {
    let flags: Vec<&Given> = given.iter().filter(|given| given.is(key)).collect();
    let Some(first) = flags.first() else {
        return false;
    };
    let values: Vec<&str> = flags
        .iter()
        .filter_map(|flag| flag.value.as_deref())
        .collect();
    let mut missing: Vec<String> = match value.as_array() {
        Some(items) => items
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        None => vec![value.to_string()],
    };
    missing.retain(|wanted| {
        !values
            .iter()
            .any(|value| value.trim_end_matches('/') == wanted)
    });
    if !missing.is_empty() {
        let fix = if key == "exec-opts" {
            "remove the flag from the unit or its environment file, or set cgroup-driver to the same driver"
        } else {
            REMOVE_FLAG
        };
        let found = format!(
            "{} {} on dockerd's command line keeps {key:?} out of daemon.json, and the plan needs {}",
            first.flag,
            values.join(", "),
            missing.join(", ")
        );
        draft.conflict(NAME, found, fix);
    }
    true
}
