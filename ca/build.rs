//! Generates the server half, and the client half for tests of the CA's protocol. protox parses the file, so no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../identity/proto");
    let files = protox::compile(["ca.proto"], ["../identity/proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
