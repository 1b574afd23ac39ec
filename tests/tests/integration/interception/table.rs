//! The table itself: set in one piece, removed without a trace, and alone.

use std::fs;
use std::net::{SocketAddr, UdpSocket};

use portcullis::intercept::{Ruleset, Settings, apply, remove};
use portcullis_tests::{as_user, within};

use super::{APP, CANARY, LIMIT, SOON, Scene, ask, assert_connected, assert_refused, connect, listen};

/// What Docker puts into a container's network namespace for its DNS server, which listens on odd ports there.
const DOCKER: &str = "
table ip nat {
    chain DOCKER_OUTPUT {
        ip daddr 127.0.0.11 tcp dport 53 counter dnat to 127.0.0.11:40053
        ip daddr 127.0.0.11 udp dport 53 counter dnat to 127.0.0.11:40054
    }
    chain OUTPUT {
        type nat hook output priority -100; policy accept;
        ip daddr 127.0.0.11 counter jump DOCKER_OUTPUT
    }
    chain DOCKER_POSTROUTING {
        ip saddr 127.0.0.11 tcp sport 40053 counter snat to :53
        ip saddr 127.0.0.11 udp sport 40054 counter snat to :53
    }
    chain POSTROUTING {
        type nat hook postrouting priority srcnat; policy accept;
        ip daddr 127.0.0.11 counter jump DOCKER_POSTROUTING
    }
}";

fn some_settings(scene: &Scene) -> Settings {
    let resolvers = scene.peer.addresses().to_vec();
    Settings { resolvers, exclude_inbound: vec![22, 9000], ..Settings::default() }
}

fn addresses(scene: &Scene) -> String {
    scene.workload.command("ip").args(["-brief", "address"]).check(SOON).unwrap()
}

#[test]
fn what_is_printed_is_what_is_applied() {
    within(LIMIT, || {
        let (applied, printed) = (Scene::new(), Scene::new());
        for settings in [Settings::default(), some_settings(&applied)] {
            let text = Ruleset::try_from(settings.clone()).unwrap().to_string();
            printed.nft(&[&text]);
            applied.apply_with(settings);
            assert!(printed.rules().contains("redirect to :15006"));
            assert_eq!(printed.rules(), applied.rules());
        }
    });
}

#[test]
fn applying_twice_is_applying_once_and_keeps_the_proxys_connections() {
    within(LIMIT, || {
        let scene = Scene::new();
        scene.apply_with(some_settings(&scene));
        scene.apply();
        let once = (scene.rules(), addresses(&scene));
        let server = listen(&scene.peer, APP, (scene.peer.ipv4(), 80));
        let client = connect(&scene.workload, super::PROXY, (scene.peer.ipv4(), 80), SOON).unwrap();
        let served = server.accept().unwrap().0;
        scene.apply();
        assert_eq!((scene.rules(), addresses(&scene)), once);
        assert_connected(&client, &served);
    });
}

#[test]
fn removing_leaves_the_host_as_it_was() {
    within(LIMIT, || {
        let scene = Scene::new();
        scene.nft(&[DOCKER]);
        let before = (scene.rules(), addresses(&scene));
        let remove = || scene.workload.in_namespace(remove).unwrap().unwrap();
        remove();
        assert_eq!((scene.rules(), addresses(&scene)), before, "nothing to remove is no error");
        scene.apply();
        assert!(scene.rules().contains(before.0.trim()), "other tables are left alone");
        assert_ne!(addresses(&scene), before.1);
        remove();
        assert_eq!((scene.rules(), addresses(&scene)), before);
        let server = listen(&scene.workload, APP, (scene.workload.ipv4(), 80));
        let client = connect(&scene.peer, APP, (scene.workload.ipv4(), 80), SOON).unwrap();
        assert_connected(&client, &server.accept().unwrap().0);
    });
}

#[test]
fn dockers_dns_server_goes_on_working() {
    within(LIMIT, || {
        for docker_first in [true, false] {
            let scene = Scene::new();
            if !docker_first {
                scene.apply();
            }
            scene.nft(&[DOCKER]);
            let query_is_answered = || {
                let to = SocketAddr::from(([127, 0, 0, 11], 53));
                let server = listen(&scene.workload, 0, ([127, 0, 0, 11], 40053));
                let client = connect(&scene.workload, APP, to, SOON).unwrap();
                assert_connected(&client, &server.accept().unwrap().0);
                let bind = |user, at: &str| {
                    let socket = scene.workload.in_namespace(|| as_user(user, || UdpSocket::bind(at)));
                    let socket = socket.unwrap().unwrap();
                    socket.set_read_timeout(Some(SOON)).unwrap();
                    socket
                };
                let (server, client) = (bind(0, "127.0.0.11:40054"), bind(APP, "127.0.0.1:0"));
                let mut buffer = [0; 100];
                client.send_to(CANARY, to).unwrap();
                let (_, caller) = server.recv_from(&mut buffer).unwrap();
                server.send_to(CANARY, caller).unwrap();
                assert_eq!(client.recv_from(&mut buffer).unwrap(), (CANARY.len(), to));
            };
            query_is_answered();
            scene.apply();
            query_is_answered();
            assert!(scene.rules().contains("dnat to 127.0.0.11:40054"));
        }
    });
}

#[test]
fn a_host_without_ipv6_is_intercepted_all_the_same() {
    within(LIMIT, || {
        let scene = Scene::new();
        let off = || fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
        scene.workload.in_namespace(off).unwrap().unwrap();
        scene.apply();
        assert_refused(&scene.peer, APP, (scene.workload.ipv4(), 80).into());
        let target = scene.workload.command(env!("CARGO_BIN_EXE_redirect-target"));
        let target = target.args(["15001", "15006"]).user(super::PROXY).spawn().unwrap();
        target.wait_for_line(|line| line == "ready", SOON).unwrap();
        let to = SocketAddr::from((scene.workload.ipv4(), 80));
        assert_eq!(ask(&scene.peer, APP, to).unwrap(), format!("15006 {to}"));
        scene.workload.in_namespace(remove).unwrap().unwrap();
        scene
            .workload
            .in_namespace(|| apply(&Ruleset::try_from(Settings::default()).unwrap()))
            .unwrap()
            .unwrap();
    });
}

#[test]
fn the_command_prints_the_rules_to_anyone_and_says_what_it_lacks_to_set_them() {
    within(LIMIT, || {
        let scene = Scene::new();
        let test = std::env::current_exe().unwrap();
        let program = test.ancestors().nth(2).unwrap().join("portcullis");
        let intercept =
            |line: &str| scene.workload.command(&program).arg("intercept").args(line.split(' ')).user(APP);
        let settings = some_settings(&scene);
        let [v4, v6] = scene.peer.addresses();
        let line =
            format!("print --resolver {v4} --resolver {v6} --exclude-inbound 22 --exclude-inbound 9000");
        assert_eq!(intercept(&line).check(SOON).unwrap(), Ruleset::try_from(settings).unwrap().to_string());
        for (command, code, lacking) in [
            (intercept("apply"), 1, "CAP_NET_ADMIN"),
            (intercept("remove"), 1, "CAP_NET_ADMIN"),
            (intercept("apply").env("PATH", ""), 1, "install the package nftables"),
            (intercept("apply --inbound-port 15001"), 2, "the proxy needs two"),
            (intercept("apply --proxy-uid 0"), 2, "cannot be root"),
            (intercept("apply --resolver 10.0.0.300"), 2, "--resolver"),
        ] {
            let refused = command.run(SOON).unwrap();
            assert_eq!(refused.status.code(), Some(code), "{}", refused.stderr);
            assert!(refused.stderr.contains(lacking), "{}", refused.stderr);
        }
        assert!(!scene.rules().contains("portcullis"));
    });
}

#[test]
fn what_the_rules_let_pass_in_the_clear_is_reported_when_they_are_set() {
    within(LIMIT, || {
        let scene = Scene::new();
        let test = std::env::current_exe().unwrap();
        let program = test.ancestors().nth(2).unwrap().join("portcullis");
        let apply = |more: &str| {
            let line = format!("intercept apply{more}");
            let applied = scene.workload.command(&program).args(line.split(' ')).run(SOON).unwrap();
            assert!(applied.status.success(), "{}", applied.stderr);
            applied.stderr
        };
        assert_eq!(apply(""), "");
        let said = apply(" --resolver 10.77.0.9 --exclude-inbound 22 --exclude-inbound 15021");
        assert_eq!(
            said,
            "portcullis: in the clear: DNS queries to 10.77.0.9\n\
             portcullis: in the clear: connections to port 22\n"
        );
    });
}
