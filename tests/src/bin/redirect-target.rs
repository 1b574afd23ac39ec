//! Stands where the proxy's interception ports are, and tells every caller where the kernel says it was going.
//! The rules are tested with it, apart from the proxy: they must hold whatever listens there.

use std::env::args;
use std::error::Error;
use std::net::Ipv6Addr;

use portcullis::intercept::original_dst;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let ports = args().skip(1).map(|port| port.parse()).collect::<Result<Vec<u16>, _>>()?;
    let mut listening = Vec::new();
    for port in &ports {
        // Without IPv6 in the kernel, IPv4 alone.
        let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind(("0.0.0.0", *port)).await?,
        };
        listening.push(tokio::spawn(answer(listener, *port, ports.clone())));
    }
    println!("ready");
    for listener in listening {
        listener.await??;
    }
    Ok(())
}

async fn answer(listener: TcpListener, port: u16, ports: Vec<u16>) -> std::io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let answer = match original_dst(&stream, &ports) {
            Ok(original) => format!("{port} {original}"),
            Err(refused) => format!("{port} {}", refused.label()),
        };
        println!("{answer}");
        // The caller may be gone.
        let _gone = stream.write_all(answer.as_bytes()).await;
    }
}
