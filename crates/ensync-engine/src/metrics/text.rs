//! Which text a scraper gets: that of OpenMetrics, or the older one of Prometheus, which most other programs read.

use std::fmt::Write as _;

/// The media type of OpenMetrics' text.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
}

impl Format {
    /// The one that an `Accept` header prefers (RFC 9110, section 12.5.1). Whoever does not name OpenMetrics gets the older one.
    pub(crate) fn wanted(accept: &str) -> Self {
        let (mut open_metrics, mut plain) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut ours) = (1.0_f32, true);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                let (name, value) = (name.trim(), value.trim().trim_matches('"'));
                if name.eq_ignore_ascii_case("q") {
                    quality = value.parse().unwrap_or(0.0);
                } else if name.eq_ignore_ascii_case("version") {
                    ours &= value == "1.0.0";
                }
            }
            match media.as_str() {
                OPEN_METRICS if ours => open_metrics = quality.max(open_metrics),
                "text/plain" | "text/*" => plain = quality.max(plain),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// A text of OpenMetrics in this format.
    pub(crate) fn of(self, text: String) -> String {
        match self {
            Self::OpenMetrics => text,
            Self::Prometheus => prometheus(&text),
        }
    }
}

/// The same numbers in the older format: it names counters and infos by their series, and knows neither units nor an end.
fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let (mut help, mut kind) = (None, None);
    for line in open_metrics.lines() {
        let comment = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        match comment {
            Some(("HELP", rest)) => (help, kind) = (rest.split_once(' '), None),
            Some(("TYPE", rest)) => kind = rest.split_once(' '),
            _ if line.starts_with('#') => {}
            _ => {
                // Only a family that has a series is told of.
                if let Some((name, of)) = kind.take() {
                    let (suffix, of) = match of {
                        "counter" => ("_total", "counter"),
                        "info" => ("_info", "gauge"),
                        of => ("", of),
                    };
                    if let Some((_, help)) = help.take() {
                        _ = writeln!(text, "# HELP {name}{suffix} {help}");
                    }
                    _ = writeln!(text, "# TYPE {name}{suffix} {of}");
                }
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_open_metrics_gets_it_and_others_what_all_read() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for accept in [prometheus, OPEN_METRICS, "text/plain;q=0.5, application/OpenMetrics-text; version=\"1.0.0\""] {
            assert_eq!(Format::wanted(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/plain;version=0.0.4",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=nonsense",
            "application/openmetrics-text;q=0.2, text/plain;q=0.3",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            ";;,=;q=,",
        ] {
            assert_eq!(Format::wanted(accept), Format::Prometheus, "{accept}");
        }
    }

    #[test]
    fn the_older_format_names_series() {
        let text = "# HELP a_build The version.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n# HELP a_in What came.\n\
                    # TYPE a_in counter\na_in_total{x=\"# TYPE\"} 2\na_in_total{x=\"b\"} 3\n# HELP a_none Nothing yet.\n\
                    # TYPE a_none counter\n# HELP a_s Time.\n# TYPE a_s histogram\n# UNIT a_s seconds\na_s_sum 1.5\n# EOF\n";
        let wanted = "# HELP a_build_info The version.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n\
                      # HELP a_in_total What came.\n# TYPE a_in_total counter\na_in_total{x=\"# TYPE\"} 2\na_in_total{x=\"b\"} 3\n\
                      # HELP a_s Time.\n# TYPE a_s histogram\na_s_sum 1.5\n";
        assert_eq!(Format::Prometheus.of(text.to_owned()), wanted);
        assert_eq!(Format::OpenMetrics.of(text.to_owned()), text);
    }
}
