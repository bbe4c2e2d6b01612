use super::fill;
use super::*;

const A: HostIndex = HostIndex(0);
const B: HostIndex = HostIndex(1);

fn bytes(model: &mut Model, end: EndId, n: usize) -> Vec<u8> {
    let (flow, offset) = model.output(end);
    let mut data = vec![0; n];
    fill(flow, offset, &mut data);
    model.wrote(end, n);
    data
}

fn pair(model: &mut Model) -> (EndId, EndId) {
    let opener = model.open(A, B, None, Opening::TopLevel);
    let acceptor = model.open(B, A, None, Opening::Accepted);
    (opener, acceptor)
}

#[test]
fn accepts_what_is_right() {
    let mut model = Model::default();
    let (a, b) = pair(&mut model);
    let data = bytes(&mut model, a, 100);
    model.finished(a);
    assert_eq!(model.unaccounted().0, 1);
    model.saw_data(b, &data[..5]).unwrap();
    model.saw_data(b, &data[5..]).unwrap();
    model.saw_end(b).unwrap();
    model.check_complete().unwrap();
}

#[test]
fn sees_wrong_missing_doubled_and_early_data() {
    let mut model = Model::default();
    let (a, b) = pair(&mut model);
    let mut data = bytes(&mut model, a, 100);
    model.saw_data(b, &data[..50]).unwrap();
    assert!(model.saw_data(b, &data[60..70]).is_err(), "a gap");

    let (a2, b2) = pair(&mut model);
    let more = bytes(&mut model, a2, 100);
    model.saw_data(b2, &more).unwrap();
    assert!(model.saw_data(b2, &more[90..]).is_err(), "never written");
    assert!(model.saw_end(b2).is_err(), "not finished");

    let (a3, b3) = pair(&mut model);
    data = bytes(&mut model, a3, 100);
    data[99] ^= 1;
    assert!(model.saw_data(b3, &data).is_err(), "a bit");

    let b4 = model.open(B, A, None, Opening::Accepted);
    assert!(model.saw_data(b4, &more).is_err(), "read twice");
    let b5 = model.open(B, A, None, Opening::Accepted);
    assert!(model.saw_end(b5).is_err(), "no empty flow");
}

#[test]
fn errors_need_a_reason() {
    let mut model = Model::default();
    let (a, b) = pair(&mut model);
    let data = bytes(&mut model, a, 20);
    model.saw_data(b, &data).unwrap();
    assert!(model.saw_reset(b, Code::DROPPED).is_err());
    let reset = model.reset(a);
    model.saw_reset(b, reset).unwrap();
    assert!(model.saw_stop(a, Code::UNREAD).is_err());
    let stop = model.stop(b);
    model.saw_stop(a, stop).unwrap();
    model.released(b);
    model.saw_stop(a, Code::UNREAD).unwrap();
    assert!(model.saw_stop(a, Code::REFUSED_SERVICE).is_err());
    let refused = model.open(A, B, None, Opening::NoService);
    model.saw_stop(refused, Code::REFUSED_SERVICE).unwrap();
    let reason = sss_proto::CloseReason::PeerRestarted;
    assert!(model.saw_loss(A, B, &reason).is_err());
    model.closed(B, A);
    model.saw_loss(A, B, &reason).unwrap();
}

#[test]
fn flows_given_up_unread_are_counted() {
    let mut model = Model::default();
    let (a, b) = pair(&mut model);
    model.finished(a);
    assert!(model.check_complete().is_err());
    model.released(b);
    model.check_complete().unwrap();
    let second = model.open(A, B, None, Opening::TopLevel);
    model.finished(second);
    assert!(model.check_complete().is_err(), "one end given up excuses one flow");
}

#[test]
fn follows_datagrams() {
    use sss_proto::DatagramFate;

    let mut model = Model::default();
    let (a, b) = pair(&mut model);
    let (stranger, _) = pair(&mut model);
    let (first, data) = model.compose(100);
    model.sent_message(a, data.len(), true, false);
    let (second, other) = model.compose(20);
    model.sent_message(a, other.len(), false, false);
    assert!(model.check_complete().is_err(), "nothing is told yet");

    assert!(model.saw_message(b, &data[..99]).is_err(), "a part");
    assert!(
        model.saw_message(b, &[data.clone(), vec![0]].concat()).is_err(),
        "too much"
    );
    let mut wrong = data.clone();
    wrong[50] ^= 1;
    assert!(model.saw_message(b, &wrong).is_err(), "a wrong byte");
    assert!(model.saw_message(b, &[0; 100]).is_err(), "never sent");
    assert!(model.saw_message(stranger, &data).is_err(), "at the sender's own host");

    assert!(model.saw_fate(first, DatagramFate::Lost).is_err(), "it is reliable");
    assert!(
        model.saw_fate(first, DatagramFate::Expired).is_err(),
        "it has no deadline"
    );
    assert!(
        model.saw_fate(first, DatagramFate::ChannelLost).is_err(),
        "nobody closed it"
    );
    assert!(model.saw_fate(first, DatagramFate::Refused(Code::NO_LISTENER)).is_err());
    model.saw_fate(first, DatagramFate::Delivered).unwrap();
    assert!(model.saw_fate(first, DatagramFate::Delivered).is_err(), "told twice");
    model.saw_fate(second, DatagramFate::Lost).unwrap();
    assert!(model.saw_fate(second + 1, DatagramFate::Lost).is_err(), "never sent");

    // That it is missing shows when it is known who should have it.
    let bytes = bytes(&mut model, b, 10);
    model.saw_data(a, &bytes).unwrap();
    assert!(model.check_complete().is_err(), "the first was not received");
    model.saw_message(b, &data).unwrap();
    assert!(model.saw_message(b, &data).is_err(), "twice");
    model.check_complete().unwrap();
}
