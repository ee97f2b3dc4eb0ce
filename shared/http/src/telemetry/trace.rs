//! The trace a request belongs to. A client may send the header, so only what has the form is taken.

/// The root of an `X-Amzn-Trace-Id`, as in `Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1`.
pub(super) fn xray(header: &str) -> Option<&str> {
    let root = header
        .split(';')
        .find_map(|part| part.trim().strip_prefix("Root="))?;
    let (version, rest) = root.split_once('-')?;
    let (time, unique) = rest.split_once('-')?;
    (version == "1" && is_hex(time, 8) && is_hex(unique, 24)).then_some(root)
}

/// The trace of a `traceparent`, as in `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
pub(super) fn w3c(header: &str) -> Option<&str> {
    let mut parts = header.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let is_zero = trace.bytes().all(|byte| byte == b'0');
    (is_hex(version, 2) && is_hex(trace, 32) && !is_zero).then_some(trace)
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_wherever_it_stands() {
        let root = "1-5759e988-bd862e3fe1be46a994272793";
        for header in [
            format!("Root={root}"),
            format!("Root={root};Parent=53995c3f42cd8ad8;Sampled=1"),
            format!("Self=1-67891234-12456789abcdef012345678f; Root={root}"),
        ] {
            assert_eq!(xray(&header), Some(root), "{header}");
        }
    }

    #[test]
    fn what_has_not_the_form_of_a_trace_is_not_taken() {
        for header in ["", "Root=", "Root=alice", "Root=1-5759e988-alice", "1-a-b"] {
            assert_eq!(xray(header), None, "{header}");
        }
        let zero = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        for header in ["", "00", "00-alice-00f067aa0ba902b7-01", zero.as_str()] {
            assert_eq!(w3c(header), None, "{header}");
        }
    }

    #[test]
    fn the_trace_of_a_traceparent_is_its_second_part() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(w3c(header), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    }
}
