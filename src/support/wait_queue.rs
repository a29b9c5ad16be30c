//! Requests that wait for a place, in the order of service.
//!
//! * A higher priority is served first, strictly.
//! * Between clients of one priority: deficit round robin (Shreedhar and Varghese, 1995). On each
//!   visit a client's credit grows by its share, and it is served while its credit covers the cost
//!   of its first request. The visits until the next one that is served are counted at once.
//! * Within a client: first come, first served.
//!
//! The state is pure: tickets in, tickets out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketId(u64);

/// A waiting request.
#[derive(Clone, Debug)]
pub struct Ticket<T> {
    /// The client's number or hash.
    pub client: u64,
    /// The credit of the client per round, at least 1. Its last ticket counts.
    pub share: u32,
    /// The priority: higher is first.
    pub priority: i32,
    /// An estimate of its tokens.
    pub cost: u32,
    pub value: T,
}

/// The result of an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Entered<T> {
    Queued(TicketId),
    /// The queue is full, and the newest request of the client with the most in it is refused for
    /// this one.
    InPlaceOf(TicketId, T),
    /// The queue is full, and this request is refused.
    Refused(T),
}

/// A bounded queue.
#[derive(Debug)]
pub struct WaitQueue<T> {
    limit: usize,
    len: usize,
    next: u64,
    lanes: BTreeMap<Reverse<i32>, Lane<T>>,
}

/// The clients of one priority, in the order of visits.
#[derive(Debug)]
struct Lane<T> {
    clients: VecDeque<Waiting<T>>,
    /// The visit of the first one continues: its credit has grown already.
    is_visiting: bool,
}

/// The requests of one client.
#[derive(Debug)]
struct Waiting<T> {
    client: u64,
    share: u64,
    credit: u64,
    tickets: VecDeque<(TicketId, u64, T)>,
}

impl<T> WaitQueue<T> {
    /// Creates an empty queue for at most `limit` requests.
    pub fn new(limit: usize) -> Self {
        Self { limit, len: 0, next: 0, lanes: BTreeMap::new() }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets the largest number of requests. Waiting ones stay.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Any of the requests: the same one until the queue changes.
    pub fn first(&self) -> Option<(TicketId, &T)> {
        let lane = self.lanes.values().next()?;
        lane.clients.front()?.tickets.front().map(|(id, _, value)| (*id, value))
    }

    /// A waiting request.
    pub fn get(&self, id: TicketId) -> Option<&T> {
        let waiting = self.lanes.values().flat_map(|lane| &lane.clients);
        let mut tickets = waiting.flat_map(|waiting| &waiting.tickets);
        tickets.find(|(known, ..)| *known == id).map(|(.., value)| value)
    }

    /// Adds a request. Beyond the limit the newest of the client with the most requests in the
    /// queue is refused, possibly this one.
    pub fn enter(&mut self, ticket: Ticket<T>) -> Entered<T> {
        let mut refused = None;
        if self.len >= self.limit {
            let own = 1 + self.waiting_of(ticket.client).map_or(0, |waiting| waiting.tickets.len());
            match self.longest().filter(|&(_, _, count)| count > own) {
                Some((priority, client, _)) => refused = self.remove_newest(priority, client),
                None => return Entered::Refused(ticket.value),
            }
        }
        let id = TicketId(self.next);
        self.next += 1;
        self.len += 1;
        let lane = self.lanes.entry(Reverse(ticket.priority)).or_default();
        lane.enter(id, ticket);
        match refused {
            Some(refused) => Entered::InPlaceOf(id, refused),
            None => Entered::Queued(id),
        }
    }

    /// Removes a request that no longer waits.
    pub fn remove(&mut self, id: TicketId) -> Option<T> {
        let mut found = None;
        for lane in self.lanes.values_mut() {
            for waiting in &mut lane.clients {
                if let Some(place) = waiting.tickets.iter().position(|(known, ..)| *known == id) {
                    found = waiting.tickets.remove(place).map(|(.., value)| value);
                }
            }
        }
        self.tidy(found.is_some());
        found
    }

    /// Takes the next request to serve.
    pub fn take_next(&mut self) -> Option<T> {
        self.take_next_where(|_| true)
    }

    /// Takes the next request for which `may_serve` returns true. It sees the requests of each client
    /// in their order, client by client in the order of service.
    pub fn take_next_where(&mut self, mut may_serve: impl FnMut(&mut T) -> bool) -> Option<T> {
        let found = self.lanes.values_mut().find_map(|lane| lane.take_next(&mut may_serve));
        self.tidy(found.is_some());
        found
    }

    fn waiting_of(&self, client: u64) -> Option<&Waiting<T>> {
        self.lanes.values().flat_map(|lane| &lane.clients).find(|waiting| waiting.client == client)
    }

    /// The priority, the client and the number of its requests, for the client with the most.
    fn longest(&self) -> Option<(Reverse<i32>, u64, usize)> {
        let count = |(priority, lane): (&Reverse<i32>, &Lane<T>)| {
            let longest = lane.clients.iter().max_by_key(|waiting| waiting.tickets.len());
            longest.map(|waiting| (*priority, waiting.client, waiting.tickets.len()))
        };
        self.lanes.iter().filter_map(count).max_by_key(|&(.., count)| count)
    }

    fn remove_newest(&mut self, priority: Reverse<i32>, client: u64) -> Option<T> {
        let lane = self.lanes.get_mut(&priority)?;
        let waiting = lane.clients.iter_mut().find(|waiting| waiting.client == client)?;
        let (.., value) = waiting.tickets.pop_back()?;
        self.tidy(true);
        Some(value)
    }

    /// Forgets clients without requests, with their credit.
    fn tidy(&mut self, has_taken: bool) {
        if has_taken {
            self.len -= 1;
            self.lanes.retain(|_, lane| {
                lane.is_visiting &= lane.clients.front().is_some_and(|first| !first.tickets.is_empty());
                lane.clients.retain(|waiting| !waiting.tickets.is_empty());
                !lane.clients.is_empty()
            });
        }
    }
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { clients: VecDeque::new(), is_visiting: false }
    }
}

impl<T> Lane<T> {
    fn enter(&mut self, id: TicketId, ticket: Ticket<T>) {
        let Ticket { client, share, cost, value, .. } = ticket;
        let entry = (id, u64::from(cost.max(1)), value);
        let share = u64::from(share.max(1));
        match self.clients.iter_mut().find(|waiting| waiting.client == client) {
            Some(waiting) => {
                waiting.share = share;
                waiting.tickets.push_back(entry);
            }
            None => self.clients.push_back(Waiting { client, share, credit: 0, tickets: [entry].into() }),
        }
    }

    fn take_next(&mut self, may_serve: &mut impl FnMut(&mut T) -> bool) -> Option<T> {
        let mut order: Vec<_> = (0..self.clients.len())
            .map(|place| {
                let rounds = self.clients[place].rounds();
                let goes_on = self.is_visiting && place == 0 && rounds == 0;
                if goes_on { (0, 0, place) } else { (rounds.max(1), self.turn(place), place) }
            })
            .collect();
        order.sort_unstable();
        for (rounds, turn, place) in order {
            let tickets = &mut self.clients[place].tickets;
            if let Some(index) = tickets.iter_mut().position(|(.., value)| may_serve(value)) {
                return self.serve(place, index, rounds, turn);
            }
        }
        None
    }

    /// The place of a client's next visit in a round.
    fn turn(&self, place: usize) -> usize {
        if self.is_visiting && place == 0 { self.clients.len() } else { place }
    }

    /// Serves a request of a client after this many rounds, in this turn of the last one.
    fn serve(&mut self, place: usize, index: usize, rounds: u64, turn: usize) -> Option<T> {
        for other in 0..self.clients.len() {
            let is_later = rounds > 0 && self.turn(other) > turn;
            self.clients[other].visit(if is_later { rounds - 1 } else { rounds });
        }
        self.clients.rotate_left(place);
        self.is_visiting = true;
        let served = self.clients.front_mut()?;
        let (_, cost, value) = served.tickets.remove(index)?;
        served.credit = served.credit.saturating_sub(cost);
        Some(value)
    }
}

impl<T> Waiting<T> {
    /// The cost of the first request.
    fn cost(&self) -> u64 {
        self.tickets.front().map_or(0, |(_, cost, _)| *cost)
    }

    /// A client that could not be served at its visit saves the credit of one request.
    fn visit(&mut self, times: u64) {
        let most = self.credit.max(self.cost() + self.share);
        self.credit = self.credit.saturating_add(times.saturating_mul(self.share)).min(most);
    }

    /// The visits until the credit covers the first request.
    fn rounds(&self) -> u64 {
        self.cost().saturating_sub(self.credit).div_ceil(self.share)
    }
}

#[cfg(test)]
mod tests;
