//! The `rflannel` command.

use std::env;
use std::path::Path;
use std::process::ExitCode;

use rflannel::cli::mk_docker_opts;

fn main() -> ExitCode {
    let mut args = env::args_os();
    let program = args.next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    let is_script = name == "mk-docker-opts.sh" || name == "mk-docker-opts";
    if is_script || args.next().is_some_and(|word| word == "mk-docker-opts") {
        return mk_docker_opts::run(args);
    }
    ExitCode::from(2)
}
