//! The room: who is in it, and what everybody hears.

use std::collections::HashMap;
use std::sync::Arc;

use strands::channel::{Receiver, Sender, TrySendError};

/// A line that many hear, with its end.
pub(crate) type Line = Arc<str>;

/// What happens in the room.
pub(crate) enum Event {
    Joined { id: usize, name: Arc<str>, outbox: Sender<Line> },
    Said { id: usize, text: String },
    Left { id: usize },
}

struct Member {
    name: Arc<str>,
    outbox: Sender<Line>,
}

/// Tells everybody what happens.
pub(crate) fn room(happening: &Receiver<Event>) {
    let mut members: HashMap<usize, Member> = HashMap::new();
    for event in happening {
        let heard = match event {
            Event::Joined { id, name, outbox } => {
                let heard = format!("* {name} is here\n");
                members.insert(id, Member { name, outbox });
                heard
            }
            // Whoever was dropped may have said something meanwhile, and will leave.
            Event::Said { id, text } => match members.get(&id) {
                Some(member) => format!("{}: {text}\n", member.name),
                None => continue,
            },
            Event::Left { id } => match members.remove(&id) {
                Some(member) => format!("* {} has left\n", member.name),
                None => continue,
            },
        };
        tell(&mut members, heard);
        // Those who write are to have a turn before the next event, or one who listens might be taken for one who
        // does not.
        strands::yield_now();
    }
}

/// Puts a line into every outbox. Never waits.
fn tell(members: &mut HashMap<usize, Member>, heard: String) {
    // Being told that somebody was dropped may be what is too much for another.
    let mut news = vec![Line::from(heard)];
    while let Some(line) = news.pop() {
        members.retain(|_, member| match member.outbox.try_send(Arc::clone(&line)) {
            Ok(()) => true,
            // Its writer has given up.
            Err(TrySendError::Disconnected(_)) => {
                news.push(format!("* {} has left\n", member.name).into());
                false
            }
            // With the member goes its outbox: its writer writes what is in there, if it can, and hangs up.
            Err(TrySendError::Full(_)) => {
                news.push(format!("* {} does not listen, and is dropped\n", member.name).into());
                false
            }
        });
    }
}
