//! Destinations for tests, and whether picks follow weights.

use std::collections::BTreeMap;

use super::*;
use crate::authz::RuleRef;

/// `api:80` as nobody configured it: no endpoints, rules or limits, and no way to reach it. A test says what it needs.
pub(crate) fn destination() -> Destination {
    Destination {
        edition: Edition::next(),
        host: "api".to_owned(),
        port: 80,
        subset: None,
        protocol: AppProtocol::Undeclared,
        resolution: Resolution::Static,
        endpoints: Vec::new(),
        limits: PoolLimits::default(),
        h2_upgrade: H2Upgrade::No,
        use_client_protocol: false,
        balancer: Balancer::RoundRobin,
        outliers: None,
        routes: HttpRules::Direct,
        tcp_routes: TcpRules::Direct,
        rule: RuleRef::built_in(),
        transport_plan: TransportPlan::Refused,
    }
}

/// One without labels, as good as any other.
pub(crate) fn endpoint(addr: EndpointAddr) -> Endpoint {
    Endpoint { addr, labels: BTreeMap::new(), weight: 1 }
}

/// Pearson's statistic of how often each was picked, against the weights.
pub(crate) fn chi_square(counts: &[u32], weights: &[u32]) -> f64 {
    let (picks, total) = (counts.iter().sum::<u32>(), weights.iter().sum::<u32>());
    let part = |(count, weight): (&u32, &u32)| {
        if *weight == 0 {
            assert_eq!(*count, 0, "weight 0 is never picked");
            return 0.0;
        }
        let expected = f64::from(picks) * f64::from(*weight) / f64::from(total);
        (f64::from(*count) - expected).powi(2) / expected
    };
    counts.iter().zip(weights).map(part).sum()
}
