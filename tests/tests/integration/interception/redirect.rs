//! TCP, turned over to the proxy.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use portcullis::intercept::Settings;
use portcullis_tests::{as_user, within};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{APP, LIMIT, PROXY, SOON, Scene, ask, assert_connected, assert_refused, connect, listen};

#[test]
fn inbound_connections_of_any_port_reach_the_proxy_with_their_original_destination() {
    within(LIMIT, || {
        let scene = Scene::new();
        let _target = scene.target();
        for address in scene.workload.addresses() {
            assert_refused(&scene.peer, APP, (address, 8080).into());
        }
        scene.apply();
        for address in scene.workload.addresses() {
            for port in [1, 22, 443, 8080, 65535] {
                let to = SocketAddr::new(address, port);
                assert_eq!(ask(&scene.peer, APP, to).unwrap(), format!("15006 {to}"));
            }
        }
    });
}

#[test]
fn outbound_connections_of_every_other_user_reach_the_proxy_with_their_original_destination() {
    within(LIMIT, || {
        let scene = Scene::new();
        let _target = scene.target();
        scene.apply();
        let elsewhere = ["203.0.113.9".parse().unwrap(), "2001:db8::9".parse().unwrap()];
        for address in scene.peer.addresses().into_iter().chain(elsewhere) {
            for user in [APP, 0] {
                for port in [80, 15001, 15006, 15021] {
                    let to = SocketAddr::new(address, port);
                    assert_eq!(ask(&scene.workload, user, to).unwrap(), format!("15001 {to}"));
                }
            }
        }
    });
}

#[test]
fn an_ipv4_mapped_address_is_redirected_as_the_ipv4_address_it_is() {
    within(LIMIT, || {
        let scene = Scene::new();
        let _target = scene.target();
        scene.apply();
        let mapped = (scene.peer.ipv4().to_ipv6_mapped(), 80);
        let plain = SocketAddr::from((scene.peer.ipv4(), 80));
        assert_eq!(ask(&scene.workload, APP, mapped).unwrap(), format!("15001 {plain}"));
        let mapped = (scene.workload.ipv4().to_ipv6_mapped(), 80);
        let plain = SocketAddr::from((scene.workload.ipv4(), 80));
        assert_eq!(ask(&scene.peer, APP, mapped).unwrap(), format!("15006 {plain}"));
    });
}

#[test]
fn multipath_tcp_is_redirected_like_tcp() {
    within(LIMIT, || {
        let scene = Scene::new();
        let _target = scene.target();
        scene.apply();
        for (from, address, expected) in [
            (&scene.workload, scene.peer.addresses(), "15001"),
            (&scene.peer, scene.workload.addresses(), "15006"),
        ] {
            for address in address {
                let to = SocketAddr::new(address, 80);
                let new = || {
                    as_user(APP, || Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::MPTCP)))
                };
                let mut socket = from.in_namespace(new).unwrap().unwrap();
                socket.connect_timeout(&to.into(), SOON).unwrap();
                socket.set_read_timeout(Some(SOON)).unwrap();
                let mut answer = String::new();
                socket.read_to_string(&mut answer).unwrap();
                assert_eq!(answer, format!("{expected} {to}"));
            }
        }
    });
}

#[test]
fn the_proxys_user_reaches_the_network_directly() {
    within(LIMIT, || {
        let scene = Scene::new();
        let _target = scene.target();
        scene.apply();
        for address in scene.peer.addresses() {
            let server = listen(&scene.peer, APP, (address, 80));
            let client = connect(&scene.workload, PROXY, (address, 80), SOON).unwrap();
            assert_connected(&client, &server.accept().unwrap().0);
        }
    });
}

#[test]
fn connections_within_the_host_are_left_alone() {
    within(LIMIT, || {
        let scene = Scene::new();
        let _target = scene.target();
        scene.apply();
        let [v4, v6] = scene.workload.addresses();
        for address in [v4, v6, Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let server = listen(&scene.workload, APP, (address, 8080));
            let client = connect(&scene.workload, APP, (address, 8080), SOON).unwrap();
            assert_connected(&client, &server.accept().unwrap().0);
        }
    });
}

#[test]
fn the_proxy_dials_its_service_from_a_source_of_its_own() {
    within(LIMIT, || {
        let scene = Scene::new();
        let _target = scene.target();
        scene.apply();
        let sources = ["127.0.0.6".parse().unwrap(), "::6".parse().unwrap()];
        for (source, address) in sources.into_iter().zip(scene.workload.addresses()) {
            let server = listen(&scene.workload, APP, (address, 8080));
            let dial = || {
                let to = SocketAddr::new(address, 8080);
                let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
                socket.bind(&SocketAddr::new(source, 0).into())?;
                socket.connect_timeout(&to.into(), SOON)?;
                socket.set_read_timeout(Some(SOON))?;
                std::io::Result::Ok(socket.into())
            };
            let client = scene.workload.in_namespace(|| as_user(PROXY, dial)).unwrap().unwrap();
            let (served, from) = server.accept().unwrap();
            assert_eq!(from.ip(), source);
            assert_connected(&client, &served);
        }
    });
}

#[test]
fn a_service_does_not_see_the_ipv6_source_of_the_proxy_unless_the_proxy_dials() {
    within(LIMIT, || {
        let scene = Scene::new();
        scene.apply();
        let address = scene.workload.ipv6();
        let server = listen(&scene.workload, APP, (address, 8080));
        let _client = connect(&scene.workload, APP, (address, 8080), SOON).unwrap();
        assert_eq!(server.accept().unwrap().1.ip(), address);
    });
}

#[test]
fn excluded_ports_are_reached_without_the_proxy() {
    within(LIMIT, || {
        let scene = Scene::new();
        let _target = scene.target();
        scene.apply_with(Settings { exclude_inbound: vec![9000], ..Settings::default() });
        for address in scene.workload.addresses() {
            for (port, user) in [(9000, APP), (15021, PROXY), (15090, PROXY)] {
                let server = listen(&scene.workload, user, (address, port));
                let client = connect(&scene.peer, APP, (address, port), SOON).unwrap();
                let served = scene.workload.in_namespace(|| as_user(user, || server.accept())).unwrap();
                assert_connected(&client, &served.unwrap().0);
            }
            let next = SocketAddr::new(address, 9001);
            assert_eq!(ask(&scene.peer, APP, next).unwrap(), format!("15006 {next}"));
        }
    });
}

/// The kernel keeps a connection for a while after its end, with its redirection, and the next one may have the
/// same addresses and ports.
#[test]
fn a_connection_of_the_proxy_is_not_taken_for_an_older_one_of_the_app() {
    within(LIMIT, || {
        let scene = Scene::new();
        scene.apply();
        let server = listen(&scene.workload, PROXY, (Ipv6Addr::UNSPECIFIED, 15001));
        for address in scene.peer.addresses() {
            let far = listen(&scene.peer, APP, (address, 80));
            let older = connect_from(&scene, 4000, APP, (address, 80).into());
            let accepted =
                scene.workload.in_namespace(|| as_user(PROXY, || server.accept())).unwrap().unwrap().0;
            assert_connected(&older, &accepted);
            reset(accepted, older);
            let proxy = connect_from(&scene, 4000, PROXY, (address, 80).into());
            assert_connected(&proxy, &far.accept().unwrap().0);
        }
    });
}

#[test]
fn a_connection_of_the_app_is_not_taken_for_an_older_one_of_the_proxy() {
    within(LIMIT, || {
        let scene = Scene::new();
        scene.apply();
        let server = listen(&scene.workload, PROXY, (Ipv6Addr::UNSPECIFIED, 15001));
        for address in scene.peer.addresses() {
            let far = listen(&scene.peer, APP, (address, 80));
            let older = connect_from(&scene, 4000, PROXY, (address, 80).into());
            let accepted = far.accept().unwrap().0;
            assert_connected(&older, &accepted);
            reset(accepted, older);
            let app = connect_from(&scene, 4000, APP, (address, 80).into());
            let accepted =
                scene.workload.in_namespace(|| as_user(PROXY, || server.accept())).unwrap().unwrap().0;
            assert_connected(&app, &accepted);
        }
    });
}

#[test]
fn the_proxy_cannot_call_itself() {
    within(LIMIT, || {
        let scene = Scene::new();
        let _target = scene.target();
        scene.apply();
        let [v4, v6] = scene.workload.addresses();
        for address in [v4, v6, Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            for port in [15001, 15006] {
                ask(&scene.workload, APP, (address, port)).unwrap();
                assert_refused(&scene.workload, PROXY, (address, port).into());
            }
        }
    });
}

fn connect_from(scene: &Scene, port: u16, user: u32, to: SocketAddr) -> TcpStream {
    let own = scene.workload.addresses().into_iter().find(|own| own.is_ipv4() == to.is_ipv4()).unwrap();
    let dial = || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(own, port).into())?;
        socket.connect_timeout(&to.into(), SOON)?;
        socket.set_read_timeout(Some(SOON))?;
        std::io::Result::Ok(socket.into())
    };
    scene.workload.in_namespace(|| as_user(user, dial)).unwrap().unwrap()
}

/// Has `one` end the connection with a reset, and the other notice.
fn reset(one: TcpStream, mut other: TcpStream) {
    SockRef::from(&one).set_linger(Some(Duration::ZERO)).unwrap();
    drop(one);
    assert_eq!(other.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}
