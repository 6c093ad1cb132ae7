//! What did an iperf3 client report (`iperf3 -c ... -J`)?

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A TCP test: what the receiving side got, whatever the direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TcpReport {
    pub(crate) received_bytes: f64,
    pub(crate) bits_per_second: f64,
    pub(crate) retransmits: f64,
}

/// A UDP test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct UdpReport {
    /// Datagrams that the server received.
    pub(crate) delivered: f64,
    pub(crate) lost_percent: f64,
    pub(crate) seconds: f64,
}

impl TcpReport {
    /// # Errors
    /// Where iperf3 reports a failure, or the text is not its JSON.
    pub(crate) fn parse(json: &str) -> Result<Self> {
        let end = end(json)?;
        Ok(Self {
            received_bytes: number(&end, "sum_received", "bytes")?,
            bits_per_second: number(&end, "sum_received", "bits_per_second")?,
            // Systems without the counter leave it out.
            retransmits: end["sum_sent"]["retransmits"].as_f64().unwrap_or(0.0),
        })
    }
}

impl UdpReport {
    /// # Errors
    /// As [`TcpReport::parse`].
    pub(crate) fn parse(json: &str) -> Result<Self> {
        let end = end(json)?;
        // Versions without `sum_received` put into `sum` what the server said.
        let sum = if end["sum_received"]["packets"].as_f64() > Some(0.0) {
            "sum_received"
        } else {
            "sum"
        };
        let packets = number(&end, sum, "packets")?;
        let lost = number(&end, sum, "lost_packets")?;
        Ok(Self {
            delivered: packets - lost,
            lost_percent: 100.0 * lost / packets.max(1.0),
            seconds: number(&end, sum, "seconds")?,
        })
    }
}

fn end(json: &str) -> Result<Value> {
    let mut report: Value =
        serde_json::from_str(json).with_context(|| format!("iperf3 printed no JSON: {json:?}"))?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3: {error}");
    }
    Ok(report["end"].take())
}

fn number(end: &Value, sum: &str, key: &str) -> Result<f64> {
    let value = end[sum][key].as_f64();
    value.with_context(|| format!("the report of iperf3 has no number end.{sum}.{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_report_is_what_was_received() {
        let json = r#"{"start":{},"end":{
            "sum_sent":{"bytes":1010,"bits_per_second":8080.0,"retransmits":7},
            "sum_received":{"bytes":1000,"bits_per_second":8000.5}}}"#;
        let expected = TcpReport {
            received_bytes: 1000.0,
            bits_per_second: 8000.5,
            retransmits: 7.0,
        };
        assert_eq!(TcpReport::parse(json).unwrap(), expected);
    }

    #[test]
    fn a_udp_report_counts_what_was_delivered() {
        let json = r#"{"end":{"sum":{"seconds":3.0,"packets":900,"lost_packets":600}}}"#;
        let report = UdpReport::parse(json).unwrap();
        assert_eq!((report.delivered, report.seconds), (300.0, 3.0));
        assert!((report.lost_percent - 66.667).abs() < 0.001);
    }

    #[test]
    fn a_newer_udp_report_is_read_on_the_receiving_side() {
        let json = r#"{"end":{"sum":{"seconds":3.0,"packets":1000,"lost_packets":0},
            "sum_received":{"seconds":3.1,"packets":900,"lost_packets":100}}}"#;
        let report = UdpReport::parse(json).unwrap();
        assert_eq!((report.delivered, report.seconds), (800.0, 3.1));
    }

    #[test]
    fn a_failure_of_iperf_is_an_error_with_its_words() {
        let error = TcpReport::parse(r#"{"start":{},"end":{},"error":"no route"}"#).unwrap_err();
        assert!(error.to_string().contains("no route"));
        assert!(TcpReport::parse("").is_err());
        assert!(TcpReport::parse(r#"{"end":{}}"#).is_err());
        assert!(UdpReport::parse(r#"{"end":{"sum":{"packets":3}}}"#).is_err());
    }
}
