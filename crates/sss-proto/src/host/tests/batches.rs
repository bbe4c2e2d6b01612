//! Packets of one segmented send (CHN-10).

use super::*;
use crate::DatagramOptions;

/// Lengths of the packets of each send in which a host says something new, in batches of up to ten; after a second in
/// which two hosts have become acquainted.
fn sends(say: impl FnOnce(&mut Host, StreamId, Instant)) -> Vec<Vec<usize>> {
    let config = Config::default().with(|config| config.max_datagram = 1452);
    let mut net = Net::with([config.clone(), config]);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"x"));
    net.run(SECOND, |_| true);
    let now = net.now;
    say(net.host(0), stream, now);
    let (mut buf, mut sends) = (TransmitBuf::new(10), Vec::new());
    loop {
        match net.host(0).poll(now, &mut buf) {
            Output::Transmit(t) => sends.push(buf.filled().chunks(t.segment).map(<[u8]>::len).collect()),
            Output::Event(_) => {}
            Output::Wake(_) => return sends,
        }
    }
}

fn datagrams(host: &mut Host, stream: StreamId, now: Instant, sizes: impl IntoIterator<Item = usize>) {
    for size in sizes {
        let options = DatagramOptions::default();
        let sent = host.stream(stream).send_datagram(now, &vec![7; size].into(), &options);
        assert!(sent.is_ok());
    }
}

// spec: CHN-10
#[test]
fn datagrams_of_one_size_travel_together_and_nothing_is_added_to_them() {
    let sends = sends(|host, stream, now| datagrams(host, stream, now, [1000; 8]));
    let all: Vec<usize> = sends.concat();
    assert_eq!(all.len(), 8);
    assert!(all.iter().all(|len| (1000..1060).contains(len)), "{sends:?}");
    assert!(sends[0].len() >= 4, "{sends:?}");
}

// spec: CHN-10
#[test]
fn what_does_not_fit_between_others_goes_in_the_next_send() {
    let sends = sends(|host, stream, now| datagrams(host, stream, now, [700, 1400, 700, 1400]));
    let all: Vec<usize> = sends.concat();
    assert_eq!(all.len(), 4, "{sends:?}");
    assert!(all.iter().sum::<usize>() < 4200 + 4 * 60, "{sends:?}");
}

// spec: CHN-10
#[test]
fn what_is_small_before_what_does_not_fit_cuts_no_others_short() {
    let sends = sends(|host, stream, now| datagrams(host, stream, now, [20, 1420, 1420, 1420]));
    let all: Vec<usize> = sends.concat();
    assert_eq!((sends[0].len(), all.len()), (1, 4), "{sends:?}");
    assert!(all.iter().sum::<usize>() < 20 + 3 * 1420 + 4 * 60, "{sends:?}");
}

// spec: CHN-10
#[test]
fn packets_of_a_stream_are_full() {
    let sends = sends(|host, stream, _| {
        written(host.stream(stream).poll_write(&[7; 9000]));
    });
    let all: Vec<usize> = sends.concat();
    let (last, others) = all.split_last().unwrap();
    assert!(*last > 0 && others.iter().all(|len| *len == 1452), "{sends:?}");
}
