use std::time::Duration;

use http_body_util::{BodyExt, StreamBody};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;

type Item = Result<Frame<Bytes>, BodyError>;

fn source() -> (mpsc::Sender<Item>, StreamBody<ReceiverStream<Item>>) {
    let (sender, receiver) = mpsc::channel(1024);
    (sender, StreamBody::new(ReceiverStream::new(receiver)))
}

async fn put(sender: &mpsc::Sender<Item>, data: &[u8]) {
    sender.send(Ok(Frame::data(Bytes::copy_from_slice(data)))).await.unwrap();
}

#[tokio::test]
async fn every_copy_gets_the_whole_body() {
    let (sender, source) = source();
    let (tee, copies) = split(source, 3);
    let reading: Vec<_> = copies
        .into_iter()
        .map(|copy| tokio::spawn(async { copy.collect().await.unwrap().to_bytes() }))
        .collect();
    for piece in ["one", "two", "three"] {
        put(&sender, piece.as_bytes()).await;
    }
    drop(sender);
    assert_eq!(tee.collect().await.unwrap().to_bytes(), "onetwothree");
    for copy in reading {
        let copy = tokio::time::timeout(Duration::from_secs(10), copy).await.expect("an end").unwrap();
        assert_eq!(copy, "onetwothree");
    }
}

#[tokio::test]
async fn a_copy_that_lags_is_given_up_and_the_others_go_on() {
    let (sender, source) = source();
    let (mut tee, mut copies) = split(source, 2);
    let (lagging, mut keeping_up) = (copies.remove(0), copies.remove(0));
    let lag = Lag(Some(lagging.queue.lagged.clone()));
    let kept = Lag(Some(keeping_up.queue.lagged.clone()));
    for sent in 0..200 {
        put(&sender, &[0; 1024]).await;
        // The original never waits for either.
        assert_eq!(tee.frame().await.unwrap().unwrap().into_data().unwrap().len(), 1024);
        assert_eq!(keeping_up.frame().await.unwrap().unwrap().into_data().unwrap().len(), 1024);
        assert_eq!(lag.is_known(), sent >= 64, "after {} KiB", sent + 1);
    }
    assert!(matches!(lagging.collect().await, Err(BodyError::Abandoned)));
    assert!(!kept.is_known());
}

#[tokio::test]
async fn a_copy_never_looks_whole_when_the_original_was_given_up() {
    let (sender, source) = source();
    let (mut tee, mut copies) = split(source, 1);
    put(&sender, b"half").await;
    assert!(tee.frame().await.unwrap().is_ok());
    drop(tee);
    let copy = copies.remove(0);
    assert!(!copy.is_end_stream());
    assert!(matches!(copy.collect().await, Err(BodyError::Abandoned)));
}

#[tokio::test]
async fn nothing_is_kept_for_a_copy_that_nobody_reads_any_more() {
    let (sender, source) = source();
    let (mut tee, copies) = split(source, 1);
    let queue = Arc::clone(&copies[0].queue);
    drop(copies);
    put(&sender, b"data").await;
    assert!(tee.frame().await.unwrap().is_ok());
    assert!(queue.lock().frames.is_empty());
}

#[test]
fn a_request_without_a_body_is_copied_as_one() {
    let (body, copies) = tee(RequestBody::Empty, 2);
    assert!(matches!(body, RequestBody::Empty));
    assert!(copies.iter().all(|(copy, lag)| matches!(copy, RequestBody::Empty) && !lag.is_known()));
}
