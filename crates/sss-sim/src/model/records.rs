//! Records: a mark takes a position of its flow, in place of a byte of the pattern.

use super::{Check, EndId, Model, Reading};

/// Before this position a flow has no marks: its number comes first.
pub(crate) const FIRST_MARK: u64 = 8;

impl Model {
    /// The core took a record mark, behind all that was written before.
    pub fn marked(&mut self, end: EndId) {
        let flow = self.flow_of(end);
        flow.marks.insert(flow.written);
        flow.written += 1;
    }

    /// A record mark came on the end.
    ///
    /// # Errors
    /// If the writer did not mark this position.
    pub fn saw_mark(&mut self, end: EndId) -> Check {
        let state = &mut self.ends[end.0];
        let at = state.read;
        state.read += 1;
        if state.reading != Reading::Open {
            return Err(format!("{end:?} reads a mark after its end"));
        }
        let flow = state.input.and_then(|id| self.flows.get(&id));
        if flow.is_some_and(|f| f.marks.contains(&at)) {
            self.marks_read += 1;
            return Ok(());
        }
        Err(format!("{end:?} sees a mark at {at}, where nobody made one: {flow:?}"))
    }

    /// Record marks that readers got, all together.
    pub fn marks_read(&self) -> u64 {
        self.marks_read
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Opening, fill};
    use super::*;
    use crate::world::HostIndex;

    #[test]
    fn marks_are_where_they_were_made_and_nowhere_else() {
        let mut model = Model::default();
        let (a, b) = (HostIndex(0), HostIndex(1));
        let writer = model.open(a, b, None, Opening::TopLevel);
        let reader = model.open(b, a, None, Opening::Accepted);
        let mut data = vec![0; 21];
        fill(model.output(writer).0, 0, &mut data);
        model.wrote(writer, 10);
        model.marked(writer);
        model.marked(writer);
        model.wrote(writer, 9);
        model.finished(writer);
        model.saw_data(reader, &data[..10]).unwrap();
        assert!(
            model.clone().saw_data(reader, &data[10..11]).is_err(),
            "a byte for a mark"
        );
        model.saw_mark(reader).unwrap();
        assert!(
            model.clone().saw_data(reader, &data[12..21]).is_err(),
            "a mark left out"
        );
        model.saw_mark(reader).unwrap();
        assert!(model.clone().saw_mark(reader).is_err(), "a mark too many");
        assert!(
            model.clone().saw_data(reader, &data[10..19]).is_err(),
            "bytes that moved"
        );
        model.saw_data(reader, &data[12..21]).unwrap();
        model.saw_end(reader).unwrap();
        assert!(model.saw_mark(reader).is_err(), "after the end");
        assert_eq!(model.marks_read(), 2);
    }
}
