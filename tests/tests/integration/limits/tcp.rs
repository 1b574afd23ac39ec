//! `maxConnections` of a service that is no HTTP.

use std::io::ErrorKind;

use portcullis_tests::callers::{PATIENCE, pool, until};
use portcullis_tests::counting::Work;
use portcullis_tests::mesh::metrics;
use portcullis_tests::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{DAY, LIMIT, Service, Site};

const MOST: u64 = 3;
const PLAIN: Service =
    Service { protocol: "TCP", ..Service::plaintext("stream", 9403, "{tcp: {maxConnections: 3}}") };
const ROUNDS: u64 = 20;

async fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    timeout(PATIENCE, async {
        stream.write_all(b"ping\n").await?;
        stream.read_exact(&mut [0; 5]).await.map(drop)
    })
    .await?
}

#[test]
fn the_connection_above_the_limit_is_reset_and_one_that_ends_makes_room() {
    within(LIMIT, || {
        let site = Site::start(DAY, &[PLAIN]);
        let server = site.serve(PLAIN, Work::Echo);
        let (to, destination) = (server.addr, PLAIN.destination());
        site.call(async || {
            let mut streams = Vec::new();
            for _ in 0..MOST {
                let mut stream = TcpStream::connect(to).await.unwrap();
                echo(&mut stream).await.unwrap();
                streams.push(stream);
            }
            for round in 0..ROUNDS {
                // It may break on connecting, on writing or on reading.
                let broken = async { echo(&mut TcpStream::connect(to).await?).await };
                let error = broken.await.expect_err("one too many");
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                for stream in &mut streams {
                    echo(stream).await.expect("the others are unharmed");
                }
                drop(streams.remove(usize::try_from(round % MOST).unwrap()));
                until("room", async || (pool(&destination).await.connections < 3).then_some(())).await;
                let mut next = TcpStream::connect(to).await.unwrap();
                echo(&mut next).await.expect("there is room");
                streams.push(next);
            }
        });
        let seen = server.numbers();
        assert_eq!((seen.peak, seen.accepted), (MOST, MOST + ROUNDS), "{seen:?}");
        let counted =
            format!(r#"portcullis_refusals_total{{direction="outbound",reason="maxConnections"}} {ROUNDS}"#);
        let page = metrics(&site.pair.client.host);
        assert!(page.lines().any(|line| line == counted), "{page}");
        let said = site.pair.client.log().lines().any(|line| {
            line.contains("refused: app ")
                && line.contains("is at its limit maxConnections: 3")
                && line.contains(&destination)
        });
        assert!(said, "{}", site.pair.client.log());
    });
}
