use super::super::fill;
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
