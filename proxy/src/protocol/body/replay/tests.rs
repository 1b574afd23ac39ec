use std::convert::Infallible;

use http_body_util::{BodyExt, StreamBody};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;

type Sender = mpsc::Sender<Result<Frame<Bytes>, hyper::Error>>;
type Source = StreamBody<ReceiverStream<Result<Frame<Bytes>, hyper::Error>>>;

fn source() -> (Sender, Source) {
    let (sender, receiver) = mpsc::channel(1024);
    (sender, StreamBody::new(ReceiverStream::new(receiver)))
}

async fn put(sender: &Sender, data: &[u8]) {
    sender.send(Ok(Frame::data(Bytes::copy_from_slice(data)))).await.unwrap();
}

async fn next(body: &mut ReplayBody<Source>) -> Option<Result<Bytes, BodyError>> {
    body.frame().await.map(|frame| frame.map(|frame| frame.into_data().unwrap()))
}

fn attempt(replay: &Replay<Source>) -> ReplayBody<Source> {
    replay.attempt().expect("it is whole").expect("there is a body")
}

#[tokio::test]
async fn a_second_attempt_sends_the_whole_body_and_the_first_is_broken_off() {
    let (sender, source) = source();
    let (replay, _) = Replay::new(source);
    let mut first = attempt(&replay);
    put(&sender, b"one").await;
    assert_eq!(next(&mut first).await.unwrap().unwrap(), "one");

    let second = attempt(&replay);
    assert!(matches!(next(&mut first).await, Some(Err(BodyError::Superseded))));
    assert!(!first.is_end_stream(), "it must not look whole");
    put(&sender, b"two").await;
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
    sender.send(Ok(Frame::trailers(trailers.clone()))).await.unwrap();
    drop(sender);
    let whole = second.collect().await.unwrap();
    assert_eq!(whole.trailers(), Some(&trailers));
    assert_eq!(whole.to_bytes(), "onetwo");

    let third = attempt(&replay).collect().await.unwrap();
    assert_eq!(third.trailers(), Some(&trailers));
    assert_eq!(third.to_bytes(), "onetwo");
}

#[tokio::test]
async fn an_attempt_that_waits_learns_at_once_that_it_was_superseded() {
    let (_sender, source) = source();
    let (replay, _) = Replay::new(source);
    let mut first = attempt(&replay);
    let waiting = tokio::spawn(async move { next(&mut first).await });
    tokio::task::yield_now().await;
    let _second = attempt(&replay);
    let ended = tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("to be woken").unwrap();
    assert!(matches!(ended, Some(Err(BodyError::Superseded))));
}

#[tokio::test]
async fn beyond_the_bound_nothing_is_kept_and_the_attempt_goes_on() {
    for (size, pieces, whole) in [(1024, 64, true), (1024, 65, false), (1, 1024, true), (1, 1025, false)] {
        let (sender, source) = source();
        let (replay, _) = Replay::new(source);
        let mut first = attempt(&replay);
        for _ in 0..pieces {
            put(&sender, &vec![7; size]).await;
            assert_eq!(next(&mut first).await.unwrap().unwrap().len(), size);
        }
        assert_eq!(replay.is_whole(), whole, "{pieces} pieces of {size}");
        assert_eq!(replay.attempt().is_some(), whole);
        if !whole {
            put(&sender, b"more").await;
            assert_eq!(next(&mut first).await.unwrap().unwrap(), "more");
        }
    }
}

#[tokio::test]
async fn without_a_body_there_are_as_many_as_one_likes() {
    let (replay, progress) = Replay::new(RequestBody::Empty);
    for _ in 0..5 {
        assert!(matches!(replay.next(), Some(RequestBody::Empty)));
    }
    assert!(progress.since().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_clock_stands_still_while_the_client_is_waited_for() {
    let (sender, source) = source();
    let start = Instant::now();
    let (replay, progress) = Replay::new(source);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(progress.since(), Some(start), "nobody has asked the client for anything yet");

    let mut body = attempt(&replay);
    assert!(tokio::time::timeout(Duration::from_secs(1), next(&mut body)).await.is_err());
    assert_eq!(progress.since(), None);
    put(&sender, b"late").await;
    let late = Instant::now();
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "late");
    assert_eq!(progress.since(), Some(late));

    assert!(tokio::time::timeout(Duration::from_secs(1), next(&mut body)).await.is_err());
    assert_eq!(progress.since(), None);
    drop((body, replay));
    assert_eq!(progress.since(), Some(Instant::now()), "nobody waits for the rest");
}

#[tokio::test]
async fn the_length_is_that_of_the_whole_body() {
    let fixed = http_body_util::Full::new(Bytes::from_static(b"hello"));
    let (replay, _) = Replay::new(fixed.map_err(|never: Infallible| -> hyper::Error { match never {} }));
    let mut first = replay.attempt().unwrap().unwrap();
    assert_eq!(first.size_hint().exact(), Some(5));
    assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "hello");
    assert!(first.is_end_stream());
    let second = replay.attempt().unwrap().unwrap();
    assert_eq!((second.size_hint().exact(), second.is_end_stream()), (Some(5), false));
}
