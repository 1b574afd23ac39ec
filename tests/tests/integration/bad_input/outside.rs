//! What lies outside the files: ports that are taken, programs that are not installed, rights that one has not.

use std::net::TcpListener;

use portcullis::demo::programs::APP_USER;
use portcullis_tests::within;

use super::{IDENTITY, LIMIT, SOON, Site, Table};

#[test]
fn a_taken_port_of_the_sidecar_is_named() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let token = site.authority().token(IDENTITY).unwrap();
        let listener = "listeners: [{direction: inbound, bind: \"127.0.0.2:9443\", port: 9443, app: \"127.0.0.1:9000\"}]\n";
        for (taken, address, what, more) in [
            ("0.0.0.0:15006", "0.0.0.0:15006", "inbound", ""),
            ("127.0.0.1:15001", "127.0.0.1:15001", "outbound", ""),
            ("[::1]:15001", "[::1]:15001", "outbound", ""),
            ("0.0.0.0:15021", "0.0.0.0:15021", "probes", ""),
            ("10.77.0.1:15090", "0.0.0.0:15090", "metrics", ""),
            ("127.0.0.1:15000", "127.0.0.1:15000", "admin", ""),
            ("127.0.0.2:9443", "127.0.0.2:9443", "explicit inbound", listener),
        ] {
            let dir = site.own_dir(taken);
            let held = site.host.in_namespace(|| TcpListener::bind(taken)).unwrap().unwrap();
            let says = format!("cannot listen on {address} ({what}): Address already in use");
            table.row(taken, site.good_sidecar(&dir, more, &token), 1, &[&says, "bootstrap file"]);
            drop(held);
        }
        let dir = site.own_dir("low");
        let command = site.good_sidecar(&dir, "admin: unix:/nowhere/admin.sock\n", &token);
        table.row(
            "no directory",
            command,
            1,
            &["cannot listen on /nowhere/admin.sock (admin)", "No such file"],
        );
    });
}

#[test]
fn interception_says_what_it_lacks() {
    within(LIMIT, || {
        let (site, mut table) = (Site::new(), Table::default());
        let intercept =
            |action: &str| site.host.command(&site.programs.portcullis).args(["intercept", action]);
        for action in ["apply", "remove"] {
            let says = ["no permission to change network rules", "CAP_NET_ADMIN"];
            table.row(action, intercept(action).user(APP_USER), 1, &says);
            let says = ["nft is not installed", "install the package nftables"];
            table.row(action, intercept(action).env("PATH", ""), 1, &says);
            table.row(action, intercept(action).env("PATH", "/nowhere"), 1, &says);
        }
        for (arguments, says) in [
            (&["--inbound-port", "15001"][..], "15001"),
            (&["--inbound-port", "0"], "0"),
            (&["--inbound-port", "65536"], "65536"),
            (&["--proxy-uid", "0"], "cannot be root (0)"),
            (&["--resolver", "example.org"], "--resolver"),
        ] {
            table.row(&arguments.join(" "), intercept("print").args(arguments), 2, &[says]);
        }
        // Control: with both it works.
        intercept("apply").check(SOON).unwrap();
        intercept("remove").check(SOON).unwrap();
    });
}
