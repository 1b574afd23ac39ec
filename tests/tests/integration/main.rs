//! Behaviour of the whole: processes, certificates and networks are real. Needs root, for network namespaces.

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod interception;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod wire;
