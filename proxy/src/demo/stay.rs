//! `--stay`: everything is up again, and this is how to play with it.

use super::error::DemoError;
use super::site::{PORT, Site};

/// Brings up what the acts have killed, prints commands to copy, and waits for Ctrl-C.
pub(super) fn stay(site: &mut Site) -> Result<(), DemoError> {
    site.day.authority.start_again()?;
    let (address, service) = (site.day.server.host.ipv4(), site.day.service.clone());
    let name = service.trim_end_matches(&format!(":{PORT}")).to_owned();
    let inside = |host: &super::lab::Host| -> Result<String, DemoError> {
        if site.ground.lab().is_none() {
            return Ok(String::new());
        }
        let path = host.namespace().path()?;
        let user = match (path.split_once("/fd/"), in_user_namespace()) {
            (Some((process, _)), true) => format!("--user={process}/ns/user --preserve-credentials "),
            _ => String::new(),
        };
        Ok(format!("nsenter {user}--net={path} "))
    };
    let client = inside(&site.day.client.host)?;
    let intruder = inside(&site.intruder)?;
    let target = site.day.target.ip();
    let text = format!(
        "
Still up, in {dir}. As the user who started this:

  the client's app      {client}curl -s --resolve {name}:{PORT}:{target} http://{service}/
  the intruder          {intruder}curl -i http://{address}:{PORT}/
  the exception         {intruder}curl -i http://{address}:8080/
  the rules             {client}nft list ruleset
  metrics and health    {client}curl -s http://127.0.0.1:15021/healthz/ready
  the service's files   {dir}/production/api-service

Ctrl-C ends it all.",
        dir = site.dir.path().display(),
    );
    println!("{text}");
    loop {
        std::thread::park();
    }
}

/// The machine's own user namespace maps every number to itself.
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}
