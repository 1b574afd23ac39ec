//! Behaviour of the whole: processes, certificates and networks are real. Needs root, for network namespaces.

#[cfg(test)]
mod authorization;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod interception;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod routing;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod verify;
#[cfg(test)]
mod wire;
