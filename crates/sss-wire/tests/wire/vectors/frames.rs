//! `frames.json`.

use serde::Deserialize;
use sss_wire::frame::{Ack, Frame, Frames, Init, InitKind};

use super::{Invalid, category, load, written};
use crate::{hex, unhex};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FramesFile {
    valid: Vec<OneFrame>,
    packets: Vec<Packet>,
    invalid: Vec<Invalid>,
}

#[derive(Deserialize)]
struct OneFrame {
    name: String,
    frame: FrameFields,
    hex: String,
    canonical: bool,
}

#[derive(Deserialize)]
struct Packet {
    name: String,
    frames: Vec<FrameFields>,
    hex: String,
}

/// A frame as the vectors describe it.
#[derive(Deserialize, PartialEq, Debug)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum FrameFields {
    Padding,
    Ping,
    Ack {
        largest: String,
        delay_us: String,
        ranges: Vec<(String, String)>,
        ecn: Option<EcnFields>,
    },
    Settings {
        list: String,
    },
    Close {
        origin: u8,
        code: String,
        reason: String,
    },
    PathChallenge {
        data: String,
    },
    PathResponse {
        data: String,
    },
    Reset {
        lsid: String,
        scope: u8,
        code: String,
        final_size: String,
        reason: String,
    },
    Stop {
        lsid: String,
        code: String,
        reason: String,
    },
    Credit {
        lsid: String,
        limit: String,
    },
    OpenCredit {
        lsid: String,
        limit: String,
        datagrams: String,
    },
    Priority {
        lsid: String,
        serial: String,
        level: i8,
    },
    Watch {
        lsid: String,
    },
    Consumed {
        lsid: String,
    },
    Await {
        lsid: String,
    },
    Released {
        lsid: String,
    },
    Datagram {
        lsid: String,
        data: String,
    },
    Stream {
        lsid: String,
        init: Option<InitFields>,
        offset: String,
        fin: bool,
        mark: bool,
        data: String,
    },
}

#[derive(Deserialize, PartialEq, Debug)]
struct EcnFields {
    ect0: String,
    ect1: String,
    ce: String,
}

#[derive(Deserialize, PartialEq, Debug)]
struct InitFields {
    parent: String,
    kind: u8,
    service: Option<String>,
    protocol: Option<String>,
    lender: Option<String>,
    size: Option<String>,
    borrow: String,
    credit: Option<String>,
}

impl From<&Frame<'_>> for FrameFields {
    fn from(frame: &Frame<'_>) -> Self {
        match frame {
            Frame::Padding => Self::Padding,
            Frame::Ping => Self::Ping,
            Frame::Ack(ack) => ack_fields(ack),
            Frame::Settings(list) => Self::Settings { list: hex(list) },
            Frame::Close(close) => Self::Close {
                origin: close.origin as u8,
                code: close.code.value().to_string(),
                reason: close.reason.to_owned(),
            },
            Frame::PathChallenge(data) => Self::PathChallenge { data: hex(data) },
            Frame::PathResponse(data) => Self::PathResponse { data: hex(data) },
            Frame::Reset(reset) => Self::Reset {
                lsid: reset.lsid.to_string(),
                scope: reset.scope as u8,
                code: reset.code.value().to_string(),
                final_size: reset.final_size.to_string(),
                reason: reset.reason.to_owned(),
            },
            Frame::Stop(stop) => Self::Stop {
                lsid: stop.lsid.to_string(),
                code: stop.code.value().to_string(),
                reason: stop.reason.to_owned(),
            },
            Frame::Credit(credit) => Self::Credit {
                lsid: credit.lsid.to_string(),
                limit: credit.limit.to_string(),
            },
            Frame::OpenCredit(credit) => Self::OpenCredit {
                lsid: credit.lsid.to_string(),
                limit: credit.limit.to_string(),
                datagrams: credit.datagrams.to_string(),
            },
            Frame::Priority(priority) => Self::Priority {
                lsid: priority.lsid.to_string(),
                serial: priority.serial.to_string(),
                level: priority.level,
            },
            Frame::Watch(watch) => Self::Watch {
                lsid: watch.lsid.to_string(),
            },
            Frame::Consumed(consumed) => Self::Consumed {
                lsid: consumed.lsid.to_string(),
            },
            Frame::Await(question) => Self::Await {
                lsid: question.lsid.to_string(),
            },
            Frame::Released(released) => Self::Released {
                lsid: released.lsid.to_string(),
            },
            Frame::Datagram(datagram) => Self::Datagram {
                lsid: datagram.lsid.to_string(),
                data: hex(datagram.data),
            },
            Frame::Stream(stream) => Self::Stream {
                lsid: stream.lsid.to_string(),
                init: stream.init.as_ref().map(init_fields),
                offset: stream.offset.to_string(),
                fin: stream.fin,
                mark: stream.mark,
                data: hex(stream.data),
            },
        }
    }
}

fn ack_fields(ack: &Ack<'_>) -> FrameFields {
    FrameFields::Ack {
        largest: ack.largest.to_string(),
        delay_us: ack.delay_us.to_string(),
        ranges: ack
            .ranges()
            .map(|r| (r.start().to_string(), r.end().to_string()))
            .collect(),
        ecn: ack.ecn.map(|e| EcnFields {
            ect0: e.ect0.to_string(),
            ect1: e.ect1.to_string(),
            ce: e.ce.to_string(),
        }),
    }
}

fn init_fields(init: &Init<'_>) -> InitFields {
    let (kind, service, protocol, size) = match init.kind {
        InitKind::Substream => (0, None, None, None),
        InitKind::TopLevel { service, protocol } => (1, Some(hex(service)), Some(hex(protocol)), None),
        InitKind::Datagram { size } => (2, None, None, Some(size.to_string())),
    };
    InitFields {
        parent: init.parent.to_string(),
        kind,
        service,
        protocol,
        lender: (kind != 1).then(|| init.lender.to_string()),
        size,
        borrow: init.borrow.to_string(),
        credit: (kind != 2).then(|| init.credit.to_string()),
    }
}

// spec: FRM-1, FRM-3, FRM-4, FRM-5, FRM-6, FRM-7, FRM-8, FRM-9, FRM-10, FRM-11
// spec: VEC-2, VEC-3, VEC-4, VEC-7
#[test]
fn frames() {
    let file: FramesFile = load("frames.json");
    for v in file.valid {
        let bytes = unhex(&v.hex);
        let frames: Vec<_> = Frames::new(&bytes).collect();
        let [Ok(frame)] = &frames[..] else {
            panic!("{}: {frames:?}", v.name);
        };
        assert_eq!(FrameFields::from(frame), v.frame, "{}", v.name);
        let again = written(frame.encoded_len(), |w| frame.encode(w));
        assert_eq!(again == v.hex, v.canonical, "{}: {again}", v.name);
        // Whatever was written means the same.
        let again = unhex(&again);
        let again = Frames::new(&again).next().unwrap().unwrap();
        assert_eq!(FrameFields::from(&again), v.frame, "{}", v.name);
    }
    for v in file.packets {
        let bytes = unhex(&v.hex);
        let frames: Vec<_> = Frames::new(&bytes).map(|f| FrameFields::from(&f.unwrap())).collect();
        assert_eq!(frames, v.frames, "{}", v.name);
    }
    for v in file.invalid {
        let bytes = unhex(&v.hex);
        let mut frames = Frames::new(&bytes).skip_while(Result::is_ok);
        let error = frames
            .next()
            .unwrap_or_else(|| panic!("{} is accepted", v.name))
            .unwrap_err();
        assert_eq!(category(error), v.error, "{}: {error}", v.name);
        assert!(frames.next().is_none(), "{}: goes on after an error", v.name);
    }
}
