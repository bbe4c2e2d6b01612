//! Cycles in a directed graph.

/// The strongly connected components with more than one node, each in ascending order, by the algorithm of Tarjan
/// (1972).
pub(crate) fn cycles(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut search = Search {
        edges,
        next: 0,
        order: vec![None; edges.len()],
        low: vec![0; edges.len()],
        on_stack: vec![false; edges.len()],
        stack: Vec::new(),
        found: Vec::new(),
    };
    for node in 0..edges.len() {
        if search.order[node].is_none() {
            search.visit(node);
        }
    }
    search.found.sort();
    search.found
}

struct Search<'a> {
    edges: &'a [Vec<usize>],
    next: usize,
    order: Vec<Option<usize>>,
    low: Vec<usize>,
    on_stack: Vec<bool>,
    stack: Vec<usize>,
    found: Vec<Vec<usize>>,
}

impl Search<'_> {
    fn visit(&mut self, node: usize) {
        let number = self.next;
        self.next += 1;
        (self.order[node], self.low[node]) = (Some(number), number);
        self.stack.push(node);
        self.on_stack[node] = true;
        for &to in &self.edges[node] {
            match self.order[to] {
                None => {
                    self.visit(to);
                    self.low[node] = self.low[node].min(self.low[to]);
                }
                Some(order) if self.on_stack[to] => self.low[node] = self.low[node].min(order),
                Some(_) => {}
            }
        }
        if self.low[node] == number {
            let at = self.stack.iter().position(|n| *n == node).unwrap_or_default();
            let mut component = self.stack.split_off(at);
            for member in &component {
                self.on_stack[*member] = false;
            }
            component.sort_unstable();
            if component.len() > 1 {
                self.found.push(component);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_circles_and_no_chains() {
        assert_eq!(cycles(&[vec![1], vec![2], vec![]]), Vec::<Vec<usize>>::new());
        assert_eq!(
            cycles(&[vec![1], vec![2], vec![0, 3], vec![4], vec![3], vec![3]]),
            [vec![0, 1, 2], vec![3, 4]]
        );
        assert_eq!(cycles(&[vec![0]]), Vec::<Vec<usize>>::new());
    }
}
