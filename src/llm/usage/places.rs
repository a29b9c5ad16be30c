//! The places of the wanted values of a JSON text, as a table.

use super::json::Kind;
pub(super) use super::keys::Key;
use super::output::Part;
use super::slots::{Beside, ErrorAt, ItemAt, ModelAt, ResultAt, Slot, UsageAt};
use super::words::listed;

listed! {
    /// A container that leads to wanted values.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Place {
        Document,
        Top,
        /// A list at the top: some upstreams put their error into one.
        List,
        Listed,
        Response,
        Session,
        Message,
        XGroq,
        Interaction,
        Choices,
        Choice,
        /// The delta of a choice or event; in a body, a choice's message.
        Delta,
        /// The delta of an event, which may contain usage (Cohere).
        EventDelta,
        /// The message in that delta.
        DeltaMessage,
        /// Gemini's choices, one of them, and its content.
        Candidates,
        Candidate,
        CandidateContent,
        /// The tool calls of a delta.
        Calls,
        Call,
        Function,
        /// Content that is a list.
        Parts,
        Part,
        /// The items of a Responses body.
        Items,
        Item,
        /// An item that an event adds; its text follows.
        Added,
        /// The items of a response in an event, which deltas have brought already.
        Results,
        Result,
        /// An item that an event completes.
        Done,
        /// An item's action.
        Action,
        /// The service's own counts beside the usage: at the top, and in a response.
        ToolUsage,
        ResponseToolUsage,
        WebSearch,
        ResponseWebSearch,
        Error,
        ResponseError,
        /// The end of a realtime response, with its error.
        StatusDetails,
        Nowhere,
    }
}

/// The treatment of a value by the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Enter(Place),
    Want(Slot),
    /// An output text.
    Text(Part),
    Pass,
}

/// [`Place::rule`] by place, key and kind: quicker than the comparisons.
static STEPS: [[[Step; Kind::ALL.len()]; Key::ALL.len()]; Place::ALL.len()] = {
    let mut steps = [[[Step::Pass; _]; _]; _];
    let mut at = 0;
    while at < Place::ALL.len() * Key::ALL.len() * Kind::ALL.len() {
        let (kind, key) = (at % Kind::ALL.len(), at / Kind::ALL.len() % Key::ALL.len());
        let place = at / Kind::ALL.len() / Key::ALL.len();
        steps[place][key][kind] = Place::ALL[place].rule(Key::ALL[key], Kind::ALL[kind]);
        at += 1;
    }
    steps
};

impl Place {
    /// The rule for a value of event payloads.
    #[inline]
    pub(super) fn step(self, key: Key, kind: Kind) -> Step {
        STEPS[self as usize][key as usize][kind as usize]
    }

    const fn rule(self, key: Key, kind: Kind) -> Step {
        use Step::{Enter, Pass, Text, Want};
        match (self, key, kind) {
            (Place::EventDelta, Key::Usage, _) => Want(Slot::Usage(UsageAt::Delta)),
            (Place::EventDelta, Key::Message, Kind::Object) => Enter(Place::DeltaMessage),
            (Place::EventDelta, ..) => Place::Delta.rule(key, kind),
            (Place::DeltaMessage, Key::Content, Kind::Object) => Enter(Place::Part),
            (Place::DeltaMessage, Key::ToolCalls, Kind::Object) => Enter(Place::Call),

            (Place::Document, _, Kind::Object) => Enter(Place::Top),
            (Place::Document, _, Kind::Array) => Enter(Place::List),
            (Place::List, _, Kind::Object) => Enter(Place::Listed),

            (Place::Top, Key::Usage, _) => Want(Slot::Usage(UsageAt::Top)),
            (Place::Response, Key::Usage, _) => Want(Slot::Usage(UsageAt::Response)),
            (Place::Message, Key::Usage, _) => Want(Slot::Usage(UsageAt::Message)),
            (Place::Choice, Key::Usage, _) => Want(Slot::Usage(UsageAt::Choice)),
            (Place::XGroq, Key::Usage, _) => Want(Slot::Usage(UsageAt::XGroq)),
            (Place::Interaction, Key::Usage, _) => Want(Slot::Usage(UsageAt::Interaction)),
            (Place::Response, Key::Meta, _) => Want(Slot::Usage(UsageAt::ResponseMeta)),
            (Place::Top, Key::UsageMetadata, _) => Want(Slot::Usage(UsageAt::Metadata)),
            (Place::Listed, Key::UsageMetadata, _) => Want(Slot::Usage(UsageAt::ListedMetadata)),
            (Place::Listed, Key::Usage, _) => Want(Slot::Usage(UsageAt::Listed)),
            (Place::Listed, Key::Object, _) => Want(Slot::ListedObject),
            (Place::Choice, Key::Index, _) => Want(Slot::Index),
            (Place::Choice, Key::FinishReason, _) => Want(Slot::FinishReason),

            (Place::Top, Key::Model, _) => Want(Slot::Model(ModelAt::Top)),
            (Place::Response, Key::Model, _) => Want(Slot::Model(ModelAt::Response)),
            (Place::Message, Key::Model, _) => Want(Slot::Model(ModelAt::Message)),

            (Place::Session, Key::Model, _) => Want(Slot::Model(ModelAt::Session)),
            (Place::Interaction, Key::Model, _) => Want(Slot::Model(ModelAt::Interaction)),
            (Place::Top | Place::Listed, Key::ModelVersion, _) => Want(Slot::Model(ModelAt::Version)),
            (Place::Listed, Key::Model, _) => Want(Slot::Model(ModelAt::Listed)),

            (Place::Top, Key::Type, _) => Want(Slot::Type),
            (Place::Top, Key::EventType, _) => Want(Slot::EventType),
            (Place::Top, Key::Object, _) => Want(Slot::Object),
            (Place::Top, Key::Message, Kind::Scalar) => Want(Slot::Message),
            (Place::Top, Key::Detail, _) => Want(Slot::Detail),
            (Place::Top, Key::Code, Kind::Scalar) => Want(Slot::Code),
            (Place::Top | Place::Listed, Key::Error, Kind::Object) => Enter(Place::Error),
            (Place::Top | Place::Listed, Key::Error, _) => Want(Slot::Error(ErrorAt::Text)),
            (Place::XGroq, Key::Error, _) => Want(Slot::Error(ErrorAt::Groq)),
            (Place::Error, Key::Message, _) => Want(Slot::Error(ErrorAt::Message)),
            (Place::Error, Key::Code, _) => Want(Slot::Error(ErrorAt::Code)),
            (Place::Error, Key::Type, _) => Want(Slot::Error(ErrorAt::Type)),
            (Place::Error, Key::EventId, _) => Want(Slot::RefusedId),
            (Place::Response, Key::Error, Kind::Object) => Enter(Place::ResponseError),
            (Place::Response, Key::Error, _) => Want(Slot::Error(ErrorAt::ResponseText)),
            (Place::ResponseError, Key::Message, _) => Want(Slot::Error(ErrorAt::ResponseMessage)),
            (Place::ResponseError, Key::Code, _) => Want(Slot::Error(ErrorAt::ResponseCode)),

            (Place::Response, Key::Status, _) => Want(Slot::ResponseStatus),
            (Place::Response, Key::StatusDetails, Kind::Object) => Enter(Place::StatusDetails),
            (Place::StatusDetails, Key::Error, Kind::Object) => Enter(Place::ResponseError),

            (Place::Top, Key::Response, Kind::Object) => Enter(Place::Response),
            (Place::Top, Key::Session, Kind::Object) => Enter(Place::Session),
            (Place::Top, Key::Message, Kind::Object) => Enter(Place::Message),
            (Place::Top, Key::XGroq, Kind::Object) => Enter(Place::XGroq),
            (Place::Top, Key::Interaction, Kind::Object) => Enter(Place::Interaction),
            (Place::Top | Place::Listed, Key::Candidates, Kind::Array) => Enter(Place::Candidates),
            (Place::Candidates, _, Kind::Object) => Enter(Place::Candidate),
            (Place::Candidate, Key::Content, Kind::Object) => Enter(Place::CandidateContent),
            (Place::CandidateContent, Key::PartList, Kind::Array) => Enter(Place::Parts),
            (Place::Top, Key::Choices, Kind::Array) => Enter(Place::Choices),
            (Place::Choices, _, Kind::Object) => Enter(Place::Choice),

            (Place::Top, Key::Status, _) => Want(Slot::Status),
            (Place::Top, Key::Id, _) => Want(Slot::Id(ResultAt::Top)),
            (Place::Response, Key::Id, _) => Want(Slot::Id(ResultAt::Response)),
            (Place::Top, Key::Timings, Kind::Object) => Want(Slot::Timings),
            (Place::Top, Key::Fingerprint, Kind::Scalar) => Want(Slot::Fingerprint),
            (Place::Top, Key::Background, _) => Want(Slot::Background(ResultAt::Top)),
            (Place::Response, Key::Background, _) => Want(Slot::Background(ResultAt::Response)),
            (Place::Top, Key::ServiceTier, _) => Want(Slot::Tier(Beside::Top)),
            (Place::Response, Key::ServiceTier, _) => Want(Slot::Tier(Beside::Response)),

            (Place::Top, Key::Delta, Kind::Object) => Enter(Place::EventDelta),
            (Place::Choice, Key::Delta, Kind::Object) => Enter(Place::Delta),
            (Place::Top, Key::EventContent | Key::Text, Kind::Scalar) => Want(Slot::Content),
            (Place::Top, Key::Delta, Kind::Scalar) => Text(Part::Text),
            (Place::Choice, Key::Text, Kind::Scalar) => Text(Part::Text),

            (Place::Delta, Key::Content | Key::Text | Key::Refusal, Kind::Scalar) => Text(Part::Text),
            (Place::Delta, Key::Reasoning, Kind::Scalar) => Text(Part::Reasoning),
            (Place::Delta, Key::PartialJson, Kind::Scalar) => Text(Part::Arguments),
            (Place::Delta, Key::Content, Kind::Array) => Enter(Place::Parts),
            (Place::Delta, Key::ToolCalls, Kind::Array) => Enter(Place::Calls),
            (Place::Delta, Key::FunctionCall, Kind::Object) => Enter(Place::Function),
            (
                Place::Delta,
                Key::DeltaContent
                | Key::EventContent
                | Key::Content
                | Key::Text
                | Key::Refusal
                | Key::Reasoning
                | Key::ToolCalls
                | Key::FunctionCall
                | Key::PartialJson,
                _,
            ) => Want(Slot::Content),

            (Place::Calls, _, Kind::Object) => Enter(Place::Call),
            (Place::Call, Key::Function, Kind::Object) => Enter(Place::Function),
            (Place::Parts, _, Kind::Object) => Enter(Place::Part),
            (Place::Part, Key::Reasoning, Kind::Array) => Enter(Place::Parts),
            (Place::Part, Key::Text | Key::Refusal, Kind::Scalar) => Text(Part::Text),
            (Place::Part, Key::Reasoning, Kind::Scalar) => Text(Part::Reasoning),
            (Place::Top, Key::Item, Kind::Object) => Enter(Place::Added),
            (Place::Function | Place::Part | Place::Item | Place::Added, Key::Name, Kind::Scalar) => {
                Text(Part::Name)
            }
            (Place::Function | Place::Item, Key::Arguments, Kind::Scalar) => Text(Part::Arguments),
            (Place::Function, Key::Arguments, Kind::Object) => Text(Part::Json),
            (Place::Part, Key::Input, Kind::Object) => Text(Part::Json),
            (Place::Item, Key::Input, Kind::Scalar) => Text(Part::Arguments),
            (Place::Items, _, Kind::Object) => Enter(Place::Item),
            (Place::Response, Key::Output, Kind::Array) => Enter(Place::Results),
            (Place::Results, _, Kind::Object) => Enter(Place::Result),
            (Place::Item | Place::Result | Place::Done | Place::Added, Key::Type, _) => Want(Slot::ItemType),
            (Place::Item | Place::Result | Place::Done | Place::Added, Key::Action, Kind::Object) => {
                Enter(Place::Action)
            }
            (Place::Item | Place::Result | Place::Done | Place::Added, Key::Status, _) => {
                Want(Slot::ItemStatus)
            }
            (Place::Action, Key::Type, _) => Want(Slot::ActionType),
            (Place::Top, Key::ToolUsage, Kind::Object) => Enter(Place::ToolUsage),
            (Place::Response, Key::ToolUsage, Kind::Object) => Enter(Place::ResponseToolUsage),
            (Place::ToolUsage, Key::WebSearch, Kind::Object) => Enter(Place::WebSearch),
            (Place::ResponseToolUsage, Key::WebSearch, Kind::Object) => Enter(Place::ResponseWebSearch),
            (Place::WebSearch, Key::NumRequests, _) => Want(Slot::WebSearches(Beside::Top)),
            (Place::ResponseWebSearch, Key::NumRequests, _) => Want(Slot::WebSearches(Beside::Response)),
            (Place::Item, Key::Content | Key::Summary, Kind::Array) => Enter(Place::Parts),
            _ => Pass,
        }
    }

    /// The additional places of bodies, which pass in [`Place::step`]: those of output. Events repeat
    /// there what deltas have brought, so these places do not count in events.
    pub(super) fn step_in_body(self, key: Key, kind: Kind) -> Step {
        match (self, key, kind) {
            (Place::Choice, Key::Message, Kind::Object) => Step::Enter(Place::Delta),
            (Place::Top, Key::Content, Kind::Array) => Step::Enter(Place::Parts),
            (Place::Top, Key::Output, Kind::Array) => Step::Enter(Place::Items),
            (Place::Top, Key::Meta, _) => Step::Want(Slot::Usage(UsageAt::Meta)),
            _ => Step::Pass,
        }
    }

    /// The place of the item that this container is, if it is one.
    pub(super) fn item(self) -> Option<ItemAt> {
        match self {
            Place::Item => Some(ItemAt::Body),
            Place::Result => Some(ItemAt::Response),
            Place::Done | Place::Added => Some(ItemAt::Event),
            _ => None,
        }
    }

    /// Returns true if values matter whatever their key is: those of lists, and output.
    #[inline]
    pub(super) fn looks_at_all(self) -> bool {
        use Place::{Calls, Candidates, Choices, Document, Function, Items, List, Parts, Results};
        matches!(self, Document | List | Choices | Candidates | Calls | Function | Parts | Items | Results)
    }

    /// Returns true if any value in it is output.
    pub(super) fn is_content(self) -> bool {
        matches!(self, Place::Calls | Place::Function | Place::Parts)
    }
}
