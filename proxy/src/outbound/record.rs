//! What became of one request: for its log line, and for the marks on its answer.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::tls::VerifiedPeer;

/// Says why a failed request was not sent again although the rules name the failure.
const RETRIES: HeaderName = HeaderName::from_static("x-portcullis-retries");
/// Says that the rules made something go wrong.
const FAULT: HeaderName = HeaderName::from_static("x-portcullis-fault");

/// Filled in on the way.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Where it was sent, or meant to be sent.
    pub(super) destination: String,
    /// The rule that served it.
    pub(super) rule: Option<String>,
    /// How often it was sent.
    pub(super) attempts: u32,
    /// Who answered.
    pub(super) peer: Option<VerifiedPeer>,
    /// Why it was not sent again.
    pub(super) not_retried: Option<NotRetried>,
    /// It was held back on purpose.
    pub(super) delayed: bool,
    /// It was failed on purpose.
    pub(super) aborted: bool,
    /// How it was answered if not by the service: a refusal's label, `redirect`, `direct_response`, `upgraded`.
    pub(super) answered: Option<&'static str>,
}

/// Why a request was not sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotRetried {
    /// It has been, as often as the rules have it.
    Exhausted,
    /// Too many retries are under way to this destination.
    Budget,
    /// Too much of its body has passed to be kept.
    Body,
}

impl NotRetried {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Budget => "budget",
            Self::Body => "body",
        }
    }
}

impl Record {
    /// Marks the answer.
    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        if let Some(why) = self.not_retried {
            headers.insert(RETRIES, HeaderValue::from_static(why.as_str()));
        }
        for (happened, fault) in [(self.delayed, "delay"), (self.aborted, "abort")] {
            if happened {
                headers.append(FAULT, HeaderValue::from_static(fault));
            }
        }
    }

    /// What was out of the ordinary, for the log.
    pub(super) fn why(&self) -> String {
        let retries = self.not_retried.map(|why| match why {
            NotRetried::Exhausted => "retries_exhausted",
            NotRetried::Budget => "retry_budget",
            NotRetried::Body => "retry_body",
        });
        let delayed = self.delayed.then_some("fault_delay");
        let aborted = self.aborted.then_some("fault_abort");
        let all: Vec<_> = [delayed, aborted, retries, self.answered].into_iter().flatten().collect();
        if all.is_empty() { "-".to_owned() } else { all.join(",") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_on_the_answer_and_in_the_log() {
        let mut record = Record { delayed: true, aborted: true, ..Record::default() };
        record.not_retried = Some(NotRetried::Budget);
        record.answered = Some("timeout");
        let mut headers = HeaderMap::new();
        record.mark(&mut headers);
        assert_eq!(headers[RETRIES], "budget");
        assert_eq!(headers.get_all(FAULT).iter().collect::<Vec<_>>(), ["delay", "abort"]);
        assert_eq!(record.why(), "fault_delay,fault_abort,retry_budget,timeout");

        let (mut headers, plain) = (HeaderMap::new(), Record::default());
        plain.mark(&mut headers);
        assert!(headers.is_empty() && plain.why() == "-");
    }
}
