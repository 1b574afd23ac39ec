//! `loadBalancer` and `outlierDetection`.

use std::time::Duration;

use super::pool::positive;
use crate::config::decode::Node;
use crate::config::report::{Faults, quoted};
use crate::route::{Balancer, OutlierDetection};

const REFUSED_IN_BALANCER: [(&str, &str); 4] = [
    ("consistentHash", "no server is bound to a client; write simple"),
    ("localityLbSetting", "endpoints have no locality here; divide traffic by weight"),
    ("warmup", "a new server gets its full share at once; remove it"),
    ("warmupDurationSecs", "a new server gets its full share at once; remove it"),
];
const REFUSED_IN_OUTLIERS: [(&str, &str); 2] = [
    ("consecutiveErrors", "Istio gave it up; write consecutive5xxErrors or consecutiveGatewayErrors"),
    (
        "consecutiveLocalOriginFailures",
        "a failed connection counts as a server error and as a gateway error; write those",
    ),
];
/// Istio's numbers of errors are unsigned.
const MAX_ERRORS: u64 = 4_294_967_295;
/// Envoy's defaults, which Istio documents.
const CONSECUTIVE_5XX: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(10);
const BASE_EJECTION: Duration = Duration::from_secs(30);
const MAX_EJECTION_PERCENT: u8 = 10;

pub(super) fn read_balancer(node: &Node<'_>, faults: &mut Faults) -> Option<Balancer> {
    let mut fields = node.fields(faults)?;
    let balancer = fields.take("simple").and_then(|node| read_simple(&node, faults));
    fields.refuse(&REFUSED_IN_BALANCER, faults);
    fields.finish(&[], faults);
    balancer
}

fn read_simple(node: &Node<'_>, faults: &mut Faults) -> Option<Balancer> {
    match node.text(faults)? {
        "ROUND_ROBIN" => Some(Balancer::RoundRobin),
        "RANDOM" => Some(Balancer::Random),
        // LEAST_CONN is the old name of LEAST_REQUEST, which is also what Istio takes when nothing is said.
        "LEAST_REQUEST" | "LEAST_CONN" | "UNSPECIFIED" => Some(Balancer::LeastRequest),
        "PASSTHROUGH" => {
            node.fault(
                faults,
                "not supported: PASSTHROUGH; a ServiceEntry with resolution NONE dials what the app dialled",
            );
            None
        }
        other => {
            let words = "ROUND_ROBIN, LEAST_REQUEST, RANDOM or UNSPECIFIED";
            node.fault(faults, format!("{} is not known: write {words}", quoted(other)));
            None
        }
    }
}

/// `None` when every count is switched off, and after a fault.
pub(super) fn read_outliers(node: &Node<'_>, faults: &mut Faults) -> Option<OutlierDetection> {
    let mut fields = node.fields(faults)?;
    let mut errors = |name| fields.take(name).and_then(|node| node.integer::<u32>(faults, 0..=MAX_ERRORS));
    let consecutive_5xx = errors("consecutive5xxErrors").unwrap_or(CONSECUTIVE_5XX);
    let consecutive_gateway = errors("consecutiveGatewayErrors").unwrap_or(0);
    let interval = fields.take("interval").and_then(|node| node.duration(faults, positive));
    let base_ejection = fields.take("baseEjectionTime").and_then(|node| node.duration(faults, positive));
    let mut percent = |name| fields.take(name).and_then(|node| node.integer::<u8>(faults, 0..=100));
    let max_ejection_percent = percent("maxEjectionPercent").filter(|percent| *percent > 0);
    let min_health_percent = percent("minHealthPercent");
    if let Some(node) = fields.take("splitExternalLocalOriginErrors")
        && node.boolean(faults) == Some(true)
    {
        node.fault(
            faults,
            "not supported: splitExternalLocalOriginErrors; a failed connection counts like an error answered",
        );
    }
    fields.refuse(&REFUSED_IN_OUTLIERS, faults);
    fields.finish(&[], faults);
    let counted = |errors: u32| (errors > 0).then_some(errors);
    let detection = OutlierDetection {
        consecutive_5xx: counted(consecutive_5xx),
        consecutive_gateway: counted(consecutive_gateway),
        interval: interval.unwrap_or(INTERVAL),
        base_ejection: base_ejection.unwrap_or(BASE_EJECTION),
        max_ejection_percent: max_ejection_percent.unwrap_or(MAX_EJECTION_PERCENT),
        min_health_percent: min_health_percent.unwrap_or(0),
    };
    (detection.consecutive_5xx.is_some() || detection.consecutive_gateway.is_some()).then_some(detection)
}
