use super::*;

fn ticket(client: u64, cost: u32, value: usize) -> Ticket<usize> {
    Ticket { client, share: 1, priority: 0, cost, value }
}

type Tickets = VecDeque<(u64, usize)>;

/// Deficit round robin as in books: visit by visit.
#[derive(Default)]
struct Naive {
    /// The client, its share, its credit, and the costs and values of its tickets.
    ring: VecDeque<(u64, u64, u64, Tickets)>,
    is_visiting: bool,
}

impl Naive {
    fn enter(&mut self, ticket: &Ticket<usize>) {
        let entry = (u64::from(ticket.cost), ticket.value);
        match self.ring.iter_mut().find(|(client, ..)| *client == ticket.client) {
            Some((.., tickets)) => tickets.push_back(entry),
            None => self.ring.push_back((ticket.client, u64::from(ticket.share), 0, [entry].into())),
        }
    }

    fn take_next(&mut self) -> Option<usize> {
        while !self.ring.is_empty() {
            let was_visiting = std::mem::replace(&mut self.is_visiting, true);
            let (_, share, credit, tickets) = self.ring.front_mut()?;
            if !was_visiting {
                *credit += *share;
            }
            let (cost, value) = *tickets.front()?;
            if *credit >= cost {
                *credit -= cost;
                tickets.pop_front();
                if tickets.is_empty() {
                    self.ring.pop_front();
                    self.is_visiting = false;
                }
                return Some(value);
            }
            self.ring.rotate_left(1);
            self.is_visiting = false;
        }
        None
    }
}

#[test]
fn order_is_that_of_deficit_round_robin() {
    let mut random = fastrand::Rng::with_seed(5);
    let (mut queue, mut naive) = (WaitQueue::new(usize::MAX), Naive::default());
    for value in 0..20_000 {
        if random.u32(..100) < 52 {
            let client = random.u64(..6);
            let cost = random.u32(1..400);
            // A share belongs to its client.
            let ticket = Ticket { share: 1 + client as u32 * 37, ..ticket(client, cost, value) };
            naive.enter(&ticket);
            assert!(matches!(queue.enter(ticket), Entered::Queued(_)));
        } else {
            assert_eq!(queue.take_next(), naive.take_next());
        }
    }
    while let Some(value) = queue.take_next() {
        assert_eq!(Some(value), naive.take_next());
    }
    assert!(queue.is_empty() && naive.take_next().is_none());
}

#[test]
fn client_with_many_loops_delays_another_by_one_request() {
    let mut queue = WaitQueue::new(1000);
    for value in 0..50 {
        let _ = queue.enter(ticket(1, 1000, value));
    }
    for _ in 0..200 {
        // One place becomes free after the other, and each client sends the next request at once.
        for _ in 0..7 {
            let value = queue.take_next().unwrap();
            queue.enter(ticket(1, 1000, value));
        }
        queue.enter(ticket(2, 1000, 99));
        let served = (1..).find(|_| {
            let value = queue.take_next().unwrap();
            if value != 99 {
                queue.enter(ticket(1, 1000, value));
            }
            value == 99
        });
        assert!(served.unwrap() <= 2, "{served:?}");
    }
}

#[test]
fn clients_are_served_by_their_shares_of_tokens() {
    let mut random = fastrand::Rng::with_seed(9);
    let mut queue = WaitQueue::new(usize::MAX);
    let mut costs = Vec::new();
    for value in 0..40_000 {
        let client = value % 2;
        // The second client's requests are ten times larger, and its share is three.
        let cost = if client == 0 { random.u32(1..100) } else { random.u32(1..1000) };
        costs.push((client, cost));
        queue.enter(Ticket { share: 1 + 2 * client as u32, ..ticket(client as u64, cost, value) });
    }
    let mut served = [0_u64; 2];
    for _ in 0..12_000 {
        let (client, cost) = costs[queue.take_next().unwrap()];
        served[client] += u64::from(cost);
    }
    let ratio = served[1] as f64 / served[0] as f64;
    assert!((2.9..3.1).contains(&ratio), "{served:?}");
}

#[test]
fn higher_priority_is_served_first() {
    let mut queue = WaitQueue::new(10);
    for (value, priority) in [0, 5, -1, 5, 0].into_iter().enumerate() {
        queue.enter(Ticket { priority, ..ticket(value as u64, 10, value) });
    }
    let order: Vec<_> = std::iter::from_fn(|| queue.take_next()).collect();
    assert_eq!(order, [1, 3, 0, 4, 2]);
}

#[test]
fn full_queue_refuses_the_newest_of_the_largest_client() {
    let mut queue = WaitQueue::new(4);
    for value in 0..3 {
        let _ = queue.enter(ticket(1, 1, value));
    }
    queue.enter(ticket(2, 1, 10));
    assert!(matches!(queue.enter(ticket(3, 1, 20)), Entered::InPlaceOf(_, 2)));
    assert_eq!(queue.enter(ticket(1, 1, 3)), Entered::Refused(3), "its own client has the most");
    assert!(matches!(queue.enter(ticket(2, 1, 11)), Entered::Refused(11)), "two each");
    assert_eq!(queue.len(), 4);
    assert_eq!(WaitQueue::new(0).enter(ticket(1, 1, 7)), Entered::Refused(7));
}

#[test]
fn request_that_left_is_not_served() {
    let mut queue = WaitQueue::new(10);
    let ids: Vec<_> = (0..3)
        .map(|value| match queue.enter(ticket(1, 1, value)) {
            Entered::Queued(id) => id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(queue.remove(ids[1]), Some(1));
    assert_eq!(queue.remove(ids[1]), None);
    assert_eq!((queue.take_next(), queue.remove(ids[0])), (Some(0), None));
    assert_eq!((queue.take_next(), queue.take_next(), queue.len()), (Some(2), None, 0));
}

#[test]
fn request_that_no_member_can_serve_blocks_no_other() {
    let mut queue = WaitQueue::new(10);
    for value in 0..4 {
        let _ = queue.enter(ticket(value as u64, 1, value));
    }
    assert_eq!(queue.take_next_where(|value| *value == 2), Some(2));
    assert_eq!(queue.take_next_where(|_| false), None);
    assert_eq!(queue.len(), 3);
    let rest: Vec<_> = std::iter::from_fn(|| queue.take_next()).collect();
    assert_eq!(rest.len(), 3);
}

#[test]
fn request_behind_one_that_cannot_be_served_is_served() {
    let mut queue = WaitQueue::new(10);
    for value in 0..4 {
        let _ = queue.enter(ticket(1, 1, value));
    }
    assert_eq!(queue.take_next_where(|value| *value >= 2), Some(2));
    assert_eq!(queue.take_next_where(|value| *value >= 2), Some(3));
    assert_eq!((queue.take_next(), queue.take_next(), queue.take_next()), (Some(0), Some(1), None));
}
