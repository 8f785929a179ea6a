//! The interface for programs: what each path below `/api/v1` answers. What it answers with is in `api`.

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::{
    body::{Answer, Live},
    response::{JSON, TEXT, respond},
    via::Via,
};
use crate::{
    api::{
        Filter, FindingDocument, Findings, Hazards, Health, PREFIX, Processes, RescueReport, Servers,
        Workers, markdown,
    },
    health::Failing,
    live::{Bus, MOST_LISTENERS, Question, Wants},
    model::followed::Followed,
    store::Store,
};

const MARKDOWN: HeaderValue = HeaderValue::from_static("text/markdown; charset=utf-8");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
/// The interface described, made by [`crate::api::openapi`]: the program as it is shipped has no schemas.
const DESCRIPTION: &str = include_str!("../../../docs/api.openapi.json");
/// Longest request that is read.
const LONGEST_REQUEST: usize = 64 << 10;

/// Says what only the watch knows.
pub trait Describe: Send + Sync {
    /// How the watch is, while these parts of it fail.
    fn health(&self, failing: &[Failing], is_ready: bool) -> Health;
    /// The followed children, only those of this pid where one is given.
    fn processes(&self, followed: Vec<Followed>, pid: Option<u32>) -> Processes;
    /// Servers that fork their workers: so many at most, those that changed last.
    fn servers(&self, most: usize) -> Servers;
    /// Their living workers, only this one or those of this master where a pid is given.
    fn workers(&self, pid: Option<u32>) -> Workers;
    /// What there is to be found.
    fn hazards(&self) -> Hazards;
}

/// What the interface answers from.
pub struct Api {
    /// Where findings are kept.
    pub store: Store,
    /// Where listeners hear what happens.
    pub bus: Bus,
    /// Where the watch itself is asked.
    pub questions: mpsc::Sender<Question>,
    /// What else is to be said.
    pub describe: Box<dyn Describe>,
}

/// What is wrong with a request, or with the answer to it.
struct Problem(StatusCode, String);

type Answered = Result<Response<Answer>, Problem>;

/// Answers a request; none where there is no such path. `health` has every part asked first.
pub(super) async fn answer(
    api: &Api,
    request: Request<Incoming>,
    via: &Via,
    health: impl Future<Output = (Vec<Failing>, bool)>,
) -> Response<Answer> {
    let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let is_post = path == "/rescues";
    let is_right = if is_post {
        request.method() == Method::POST
    } else {
        request.method() == Method::GET || request.method() == Method::HEAD
    };
    if !is_right {
        let allowed = if is_post { "POST" } else { "GET, HEAD" };
        let mut answer = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("Only {allowed}.\n"));
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(if is_post { "POST" } else { "GET, HEAD" }));
        return answer;
    }
    let answered = match path.trim_start_matches('/') {
        "findings" => findings(api, &query).await,
        "processes" => processes(api, &query).await,
        "servers" => limit(&query).and_then(|most| json(&api.describe.servers(most))),
        "workers" => pid(&query).and_then(|pid| json(&api.describe.workers(pid))),
        "hazards" => without_query(&query).and_then(|()| json(&api.describe.hazards())),
        "health" => match without_query(&query) {
            Ok(()) => {
                let (failing, is_ready) = health.await;
                json(&api.describe.health(&failing, is_ready))
            }
            Err(problem) => Err(problem),
        },
        "openapi.json" => Ok(respond(StatusCode::OK, JSON, DESCRIPTION)),
        "events" => events(api, &query, via),
        "rescues" => rescued(api, request, via).await,
        other => match other.strip_prefix("findings/").map(|rest| rest.split_once('/').unwrap_or((rest, "")))
        {
            Some((id, form @ ("" | "markdown"))) => finding(api, id, !form.is_empty()).await,
            _ => Err(Problem(
                StatusCode::NOT_FOUND,
                format!("There is no such path; {PREFIX}/openapi.json describes those there are."),
            )),
        },
    };
    answered.unwrap_or_else(|Problem(status, why)| respond(status, TEXT, why + "\n"))
}

async fn findings(api: &Api, query: &str) -> Answered {
    let filter = Filter::parse(query, Timestamp::now())
        .map_err(|error| Problem(StatusCode::BAD_REQUEST, error.to_string()))?;
    let (findings, next) = stored(|reply| api.store.list(filter, reply)).await?;
    json(&Findings { schema: "forkwatch.findings/1".to_owned(), findings, next, store: api.store.health() })
}

async fn finding(api: &Api, id: &str, as_markdown: bool) -> Answered {
    let missing =
        || Problem(StatusCode::NOT_FOUND, "There is no such finding, or it is kept no more.".to_owned());
    let finding = stored(|reply| api.store.find(id.to_owned(), reply)).await?.ok_or_else(missing)?;
    if as_markdown {
        return Ok(respond(StatusCode::OK, MARKDOWN, markdown(&finding)));
    }
    json(&FindingDocument { schema: "forkwatch.finding/1".to_owned(), finding })
}

/// Asks the store, whose thread answers.
async fn stored<T: Send + 'static>(ask: impl FnOnce(crate::store::Reply<T>)) -> Result<T, Problem> {
    let (sender, receiver) = oneshot::channel();
    // Whoever does not wait any more wants no answer.
    ask(Box::new(move |answer| drop(sender.send(answer))));
    let failed =
        |why: String| Problem(StatusCode::SERVICE_UNAVAILABLE, format!("Findings cannot be read: {why}."));
    receiver.await.map_err(|_| failed("the part that keeps them has failed".to_owned()))?.map_err(failed)
}

async fn processes(api: &Api, query: &str) -> Answered {
    let pid = pid(query)?;
    let (sender, receiver) = oneshot::channel();
    let busy = || Problem(StatusCode::SERVICE_UNAVAILABLE, "The watch is busy, or ending.".to_owned());
    api.questions.try_send(Question::Followed(sender)).map_err(|_| busy())?;
    let followed = receiver.await.map_err(|_| busy())?;
    json(&api.describe.processes(followed, pid))
}

/// The one filter of processes and workers.
fn pid(query: &str) -> Result<Option<u32>, Problem> {
    let wrong = |why: &str| Problem(StatusCode::BAD_REQUEST, why.to_owned());
    match query.split_once('=') {
        None if query.is_empty() => Ok(None),
        Some(("pid", pid)) => {
            pid.parse().map(Some).map_err(|_| wrong("`pid` must be the number of a process."))
        }
        _ => Err(wrong("There is one filter: pid.")),
    }
}

/// The one filter of servers.
fn limit(query: &str) -> Result<usize, Problem> {
    let wrong = |why: &str| Problem(StatusCode::BAD_REQUEST, why.to_owned());
    match query.split_once('=') {
        None if query.is_empty() => Ok(usize::MAX),
        Some(("limit", most)) => most.parse().map_err(|_| wrong("`limit` must be a number.")),
        _ => Err(wrong("There is one filter: limit.")),
    }
}

fn events(api: &Api, query: &str, via: &Via) -> Answered {
    let wrong = |why: &str| Problem(StatusCode::BAD_REQUEST, why.to_owned());
    let (mut wants, mut each) = (Wants::All, false);
    for filter in query.split('&').filter(|filter| !filter.is_empty()) {
        match filter {
            "type=all" => wants = Wants::All,
            "type=finding" => wants = Wants::Findings,
            "type=notable" => wants = Wants::Notable,
            "each=own" => each = true,
            _ => {
                return Err(wrong(
                    "There are the filters type, which is finding, notable or all, and each, which is own.",
                ));
            }
        }
    }
    let full = || {
        let why = format!("{MOST_LISTENERS} listen already; more are not served at a time.");
        Problem(StatusCode::SERVICE_UNAVAILABLE, why)
    };
    let is_local = matches!(via, Via::Local { .. });
    let listening = api.bus.listen(wants, is_local).ok_or_else(full)?;
    let listening = match via {
        Via::Local { uid } if each => api.bus.each_of(listening, *uid),
        _ if each => return Err(wrong("Only the local socket knows who you are, so each=own is for that.")),
        _ => listening,
    };
    let mut answer = respond(StatusCode::OK, EVENTS, "");
    *answer.body_mut() = Answer::Live(Box::new(Live::new(listening)));
    Ok(answer)
}

/// Only root can have done it, and only the local socket knows who that is.
async fn rescued(api: &Api, request: Request<Incoming>, via: &Via) -> Answered {
    if *via != (Via::Local { uid: 0 }) {
        let why = "Only root can tell of a rescue, over the local socket.".to_owned();
        return Err(Problem(StatusCode::FORBIDDEN, why));
    }
    let wrong =
        |why: String| Problem(StatusCode::BAD_REQUEST, format!("This is no report of a rescue: {why}."));
    let body = Limited::new(request.into_body(), LONGEST_REQUEST).collect().await;
    let body = body.map_err(|_| wrong("it is too long, or ends early".to_owned()))?.to_bytes();
    let report: RescueReport = serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))?;
    let busy = |_| Problem(StatusCode::SERVICE_UNAVAILABLE, "The watch is busy, or ending.".to_owned());
    api.questions.try_send(Question::Rescued(Box::new(report))).map_err(busy)?;
    Ok(respond(StatusCode::NO_CONTENT, TEXT, ""))
}

fn without_query(query: &str) -> Result<(), Problem> {
    if query.is_empty() {
        return Ok(());
    }
    Err(Problem(StatusCode::BAD_REQUEST, "This path has no filters.".to_owned()))
}

fn json(document: &impl Serialize) -> Answered {
    let failed = |error: serde_json::Error| Problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let mut text = serde_json::to_vec(document).map_err(failed)?;
    text.push(b'\n');
    let mut answer = respond(StatusCode::OK, JSON, "");
    *answer.body_mut() = Answer::Whole(Full::new(text.into()));
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    Ok(answer)
}
