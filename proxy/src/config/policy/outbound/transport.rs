//! A service and its rule together: the destination, and how it is reached.

use std::sync::Arc;

use portcullis_identity::{SpiffeId, Workload};
use rustls_pki_types::ServerName;

use super::super::destination_rule::{DestinationRule, Settings, TlsMode};
use super::super::host::service_namespace;
use super::super::warning::Opening;
use super::Resolver;
use super::services::Service;
use crate::route::{Destination, Edition, HttpRules, TcpRules, Transport, TransportPlan};
use crate::tls::{EgressTls, EgressTlsError, ExpectedPeer};

impl<'a> Resolver<'a, '_> {
    pub(super) fn destination(
        &mut self,
        service: &Service<'a>,
        subset_name: Option<&str>,
        routes: HttpRules,
        tcp_routes: TcpRules,
    ) -> Option<Destination> {
        let rule = self.rule(service);
        let subset = subset_name.and_then(|name| rule?.subset(name));
        let port = service.port.number;
        let settings = rule.map(|rule| rule.settings(port, subset)).unwrap_or_default();
        Some(Destination {
            edition: Edition::next(),
            host: service.host.to_owned(),
            port,
            subset: subset_name.map(str::to_owned),
            protocol: service.port.protocol,
            resolution: service.entry.resolution,
            endpoints: service.endpoints(subset),
            h2_upgrade: settings.pool.h2_upgrade(),
            use_client_protocol: settings.pool.use_client_protocol(),
            balancer: settings.balancer(),
            outliers: settings.outliers(),
            limits: settings.pool.limits(),
            routes,
            tcp_routes,
            rule: rule.map_or(&service.entry.meta, |rule| &rule.meta).rule.clone(),
            transport_plan: self.transport(service, rule, &settings)?,
        })
    }

    fn transport(
        &mut self,
        service: &Service<'_>,
        rule: Option<&DestinationRule>,
        settings: &Settings,
    ) -> Option<TransportPlan> {
        let mode = settings.tls.mode();
        let sni = settings.tls.sni.clone().or_else(|| ServerName::try_from(service.host.to_owned()).ok());
        match rule {
            Some(rule) if mode == TlsMode::Disable => {
                let port = service.port.number;
                let opening = Opening::Outbound { host: service.host.to_owned(), port };
                let after = sni.zip(self.expected_peer(service, settings));
                let exception = self.judge.judge(&rule.meta, port, opening);
                Some(
                    exception.map_or(TransportPlan::Refused, |exception| {
                        TransportPlan::plaintext(exception, after)
                    }),
                )
            }
            Some(rule) if mode.is_egress() => {
                let tls = self.egress(rule, settings, sni?)?;
                Some(TransportPlan::Tls(Transport::Tls(Arc::new(tls))))
            }
            Some(_) | None => {
                let mutual_tls = sni.zip(self.expected_peer(service, settings));
                if mutual_tls.is_none() {
                    self.nobody_may_answer(service, settings);
                }
                mutual_tls.map(|(sni, expected)| TransportPlan::mutual_tls(sni, expected))
            }
        }
    }

    /// Names that were written and are bad have their fault already.
    fn nobody_may_answer(&mut self, service: &Service<'_>, settings: &Settings) {
        if subject_alt_names(service, settings).is_none() {
            let message = format!(
                "nothing says who may answer for {}:{}: write subjectAltNames (SPIFFE IDs) here or in a rule, or for a \
                 server outside of the mesh a DestinationRule with tls: {{mode: SIMPLE}}",
                service.host, service.port.number
            );
            self.faults.add(service.place.clone(), message);
        }
    }

    /// TLS towards a DNS name.
    fn egress(
        &mut self,
        rule: &DestinationRule,
        settings: &Settings,
        sni: ServerName<'static>,
    ) -> Option<EgressTls> {
        let tls = &settings.tls;
        if tls.identities.is_some() {
            self.faults.add(
                rule.host_place.clone(),
                "the mode SIMPLE or MUTUAL meets subjectAltNames that are SPIFFE IDs: write mode beside the names",
            );
            return None;
        }
        let client = match (tls.mode(), &tls.client_certificate, &tls.private_key) {
            (TlsMode::Mutual, Some(certificate), Some(key)) => Some((certificate, key)),
            (TlsMode::Mutual, _, _) => {
                self.faults.add(
                    rule.host_place.clone(),
                    "the mode MUTUAL needs clientCertificate and privateKey, the paths of two PEM files",
                );
                return None;
            }
            // What a wider block says of a certificate means nothing to a port with SIMPLE.
            (TlsMode::IstioMutual | TlsMode::Disable | TlsMode::Simple, _, _) => None,
        };
        let roots = tls.ca_certificates.as_ref();
        let paths = client.map(|(certificate, key)| (certificate.path.as_path(), key.path.as_path()));
        let names = tls.dns_names.clone().unwrap_or_default();
        match EgressTls::new(sni, names, roots.map(|file| file.path.as_path()), paths) {
            Ok(tls) => Some(tls),
            Err(error) => {
                let place = match &error {
                    EgressTlsError::File { path, .. } => {
                        let client = client.into_iter().flat_map(|(certificate, key)| [certificate, key]);
                        let named = roots.into_iter().chain(client).find(|file| &file.path == path);
                        named.map_or(&rule.host_place, |file| &file.place)
                    }
                    EgressTlsError::SystemRoots { .. } => &rule.host_place,
                };
                self.faults.add(place.clone(), error.to_string());
                None
            }
        }
    }

    /// Secure naming: what the rule says, else the entry, else its endpoints' service accounts, else the namespace in
    /// a Kubernetes name.
    fn expected_peer(&self, service: &Service<'_>, settings: &Settings) -> Option<ExpectedPeer> {
        if let Some(ids) = subject_alt_names(service, settings) {
            return ExpectedPeer::one_of(ids.to_vec());
        }
        let trust_domain = self.scope.workload.id().trust_domain();
        if let Some(accounts) = service.entry.service_accounts() {
            let namespace = &service.entry.meta.namespace;
            let ids = accounts.iter().map(|account| Workload::new(trust_domain, namespace, account));
            let mut ids: Vec<SpiffeId> = ids.filter_map(|id| Some(id.ok()?.id().clone())).collect();
            ids.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
            ids.dedup();
            return ExpectedPeer::one_of(ids);
        }
        service_namespace(service.host).map(|namespace| ExpectedPeer::AnyIn {
            trust_domain: trust_domain.clone(),
            namespace: namespace.to_owned(),
        })
    }
}

fn subject_alt_names<'a>(service: &'a Service<'_>, settings: &'a Settings) -> Option<&'a [SpiffeId]> {
    settings.tls.identities.as_deref().or(service.entry.subject_alt_names.as_deref())
}
