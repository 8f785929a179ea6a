//! What keys and the mouse ask for.

use ratatui::crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// To leave.
    Quit,
    /// The line so many below, or above.
    Move(isize),
    /// The first line.
    First,
    /// The last line.
    Last,
    /// The line in this row of the screen.
    Click(u16),
    /// The workers of a server folded in, or out.
    Fold,
    /// The other one of the two lists.
    Switch,
    /// More about what is selected, or no more.
    Details,
    /// What the hazard of a finding is.
    Explain,
    /// Another order.
    Sort,
    /// Only lines with a word.
    Search,
    /// No change of what is shown, or change again.
    Pause,
    /// What the keys do.
    Help,
    /// Back to what was shown before.
    Back,
    /// One more letter of the word that is searched for.
    Letter(char),
    /// One less.
    Erase,
    /// The word is whole.
    Enter,
}

/// What an input asks for; nothing where it means nothing. While a word is typed, letters are letters.
pub(super) fn action(event: &Event, is_typing: bool, page: u16) -> Option<Action> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => {
            if is_typing {
                typed(*key)
            } else {
                pressed(*key, isize::try_from(page).unwrap_or(1))
            }
        }
        Event::Mouse(MouseEvent { kind, row, .. }) => match kind {
            MouseEventKind::Down(MouseButton::Left) => Some(Action::Click(*row)),
            MouseEventKind::ScrollDown => Some(Action::Move(3)),
            MouseEventKind::ScrollUp => Some(Action::Move(-3)),
            _ => None,
        },
        _ => None,
    }
}

const fn is_interrupt(key: KeyEvent) -> bool {
    matches!(key.code, KeyCode::Char('c')) && key.modifiers.contains(KeyModifiers::CONTROL)
}

const fn typed(key: KeyEvent) -> Option<Action> {
    if is_interrupt(key) {
        return Some(Action::Quit);
    }
    match key.code {
        KeyCode::Char(letter) => Some(Action::Letter(letter)),
        KeyCode::Backspace => Some(Action::Erase),
        KeyCode::Enter => Some(Action::Enter),
        KeyCode::Esc => Some(Action::Back),
        _ => None,
    }
}

const fn pressed(key: KeyEvent, page: isize) -> Option<Action> {
    if is_interrupt(key) {
        return Some(Action::Quit);
    }
    Some(match key.code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Down | KeyCode::Char('j') => Action::Move(1),
        KeyCode::Up | KeyCode::Char('k') => Action::Move(-1),
        KeyCode::PageDown => Action::Move(page),
        KeyCode::PageUp => Action::Move(-page),
        KeyCode::Home | KeyCode::Char('g') => Action::First,
        KeyCode::End | KeyCode::Char('G') => Action::Last,
        KeyCode::Left | KeyCode::Right | KeyCode::Char(' ') => Action::Fold,
        KeyCode::Tab | KeyCode::BackTab => Action::Switch,
        KeyCode::Enter => Action::Details,
        KeyCode::Char('e') => Action::Explain,
        KeyCode::Char('s') => Action::Sort,
        KeyCode::Char('/') => Action::Search,
        KeyCode::Char('p') => Action::Pause,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => Action::Help,
        KeyCode::Esc => Action::Back,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: KeyCode) -> Event {
        Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn letters_are_letters_only_while_a_word_is_typed() {
        assert_eq!(action(&key(KeyCode::Char('q')), false, 10), Some(Action::Quit));
        assert_eq!(action(&key(KeyCode::Char('q')), true, 10), Some(Action::Letter('q')));
        assert_eq!(action(&key(KeyCode::PageDown), false, 10), Some(Action::Move(10)));
        assert_eq!(action(&key(KeyCode::F(5)), false, 10), None);
    }

    #[test]
    fn an_interrupt_leaves_at_any_time() {
        let interrupt = Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        for is_typing in [false, true] {
            assert_eq!(action(&interrupt, is_typing, 10), Some(Action::Quit));
        }
    }
}
