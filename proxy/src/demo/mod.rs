//! `portcullis demo`: a STRICT pair on real traffic, attacked, starved and killed, line by line.
//!
//! Real processes do everything; this program only sets them up, asks, and looks. It knows of the proxy what a user
//! knows: commands, files, ports and log lines.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use portcullis_identity::Clock;

pub mod lab;
pub mod programs;

mod acts;
mod error;
mod files;
mod plan;
mod probe;

mod show;
mod signals;
mod site;
mod stay;
mod wire;

use acts::{authorization, bypass, exceptions, intruder, outage, rotation, strict};
pub use error::DemoError;
use lab::Isolation;
use show::Show;
pub(crate) use site::RunDir;

/// Arguments of `portcullis demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep everything up afterwards, and say how to play with it
    #[arg(long)]
    stay: bool,
}

/// Runs the demonstration, to be called before there are threads. Success only if every line holds.
#[must_use]
pub fn run(args: &DemoArgs) -> ExitCode {
    let isolation = match lab::enter_sandbox() {
        Ok(isolation) => isolation,
        Err(error) => {
            eprintln!("portcullis demo: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut show = Show::new();
    let clock = Clock::system();
    let start = clock.now();
    if let Err(error) = perform(args, isolation, &mut show, &clock) {
        show.line("the demonstration itself", Err(error));
    }
    show.close(clock.now().saturating_sub(start).as_secs())
}

fn perform(args: &DemoArgs, isolation: Isolation, show: &mut Show, clock: &Clock) -> Result<(), DemoError> {
    let dir = RunDir::create("demo")?;
    signals::clean_up_when_interrupted(dir.path())?;
    show.note(plan::setting(isolation));
    let (mut site, plan) = plan::build(dir, isolation, clock)?;
    let canary = format!("canary-{:016x}", rand::random::<u64>());
    let wire = match site.ground.lab() {
        Some(lab) => Some(wire::Wire::watch(lab.hub(), &canary)?),
        None => None,
    };

    show.act("A STRICT pair, with the sample policy as it is");
    show.line("the client calls api-service.production.svc.cluster.local:8443", strict::call(&site, &canary));
    if let Some(wire) = &wire {
        show.line("not one byte of it crosses the wire in the clear", strict::wire(&site, wire));
    }
    let load = rotation::begin(&site)?;

    show.act("An intruder without a sidecar");
    show.line("is refused in plaintext", intruder::plaintext(&site));
    show.line("is refused in TLS without a certificate", intruder::no_certificate(&site));
    show.line(
        "is refused with another CA's certificate for the client's name",
        intruder::other_authority(&site),
    );
    show.line("each refusal says who, what and which rule", intruder::logged(&site));

    show.act("Who may ask for what");
    show.line("what no rule allows is refused, with the rule", authorization::refused(&site));
    show.line("what a rule allows passes", authorization::permitted(&site));
    let changed = authorization::changed(&site, clock);
    show.line("the rule is changed: in force within a second, with no restart", changed);
    authorization::withdraw(&site)?;

    show.act("Plaintext by exception alone");
    show.line("port 8080 takes plaintext, by its exception", exceptions::unplanned_is_open(&site));
    show.line("and is flagged: nobody planned it", exceptions::unplanned_is_flagged(&site));
    let planned = exceptions::planned_is_open(&site, &plan, clock);
    show.line("port 9090 takes plaintext, by an exception with a last day", planned);

    let far = match &wire {
        Some(_) => Some(probe::FarEnd::listen(&site.intruder, bypass::PORT)?),
        None => None,
    };
    if let Some(far) = &far {
        show.act("An app that tries to get past its sidecar");
        bypass::attempts(&site, far, show);
    }

    show.act("Certificates of four seconds");
    show.line("rotate under load, and no request fails", rotation::end(&load));
    let closed = exceptions::planned_closes(&site, &plan, clock);
    show.line("meanwhile it has become that day: port 9090 is closed, with no restart", closed);
    show.line("with their CA dead, they run out, and then nothing passes", rotation::fail_closed(&mut site));

    show.act("What dies");
    show.line("the CA is killed, and traffic goes on", outage::authority(&mut site));
    let killed = outage::client_sidecar(&mut site, wire.as_ref(), &canary);
    show.line("a sidecar is killed with -9 under load: its app is refused, nothing leaks", killed);
    show.line(
        "the service's sidecar is killed as well: its app cannot be reached",
        outage::server_sidecar(&mut site),
    );
    show.line("both come back with the CA still dead: the identity is on disk", outage::restart(&mut site));
    match (&wire, &far) {
        (Some(wire), Some(far)) => {
            let control = outage::control(&mut site, wire, far, &canary);
            show.line("control: with the rules taken away, every leak is seen", control);
        }
        _ => show.note(plan::LOOPBACK_OMITS),
    }
    if args.stay {
        stay::stay(&mut site)?;
    }
    Ok(())
}

/// How long to wait for what should take a second or two.
const SOON: Duration = Duration::from_secs(10);
