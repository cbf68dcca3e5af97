//! A server that does not show everything: what needs the view is unavailable, said so, and breaks nothing else.

use crate::cli::{Cli, evidence, law, scenario};

#[test]
fn without_its_start_time_a_server_is_told_apart_by_pod_and_container() {
    let cli = Cli::new();
    cli.write("kill.yaml", &scenario("kill", "killProcess: {}", "repeat: 2"));
    let ran = cli.run(&["kill.yaml", "--deny", "sys.dm_os_sys_info"]).ended_with(0);
    // The second trial has seen the pod of the first, and does not take it for a restart.
    let trial = ran.trial(1);
    assert_eq!(trial["verdict"], "passed", "{}", ran.tell());
    assert_eq!(evidence(&trial, "sqlserver_start_time").2, "unavailable");
    assert_eq!(evidence(&trial, "restart count").2, "proof");
    assert_eq!(law(&trial, "new_incarnation"), "passed");
    let warnings = ran.result()["warnings"].to_string();
    assert!(warnings.contains("does not tell when it started"), "{warnings}");
    assert!(trial["recovery"]["ms"].is_u64(), "{}", ran.tell());
}

#[test]
fn without_its_sessions_a_server_is_read_all_the_same() {
    let cli = Cli::new();
    cli.write("kill.yaml", &scenario("kill", "killProcess: {}", ""));
    let ran = cli.run(&["kill.yaml", "--deny", "sys.dm_exec_sessions"]).ended_with(0);
    assert_eq!(ran.trial(0)["verdict"], "passed", "{}", ran.tell());
    let warnings = ran.result()["warnings"].to_string();
    assert!(warnings.contains("is not settled"), "{warnings}");
}
