//! The names of header fields that this proxy uses, or that most messages have.

macro_rules! known_names {
    ($($variant:ident = $name:literal;)*) => {
        /// A field name that is recognized once, when its head is read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum KnownName {
            $($variant,)*
            /// Any other name that begins with `proxy-`.
            AnyProxy,
            /// Any other name that begins with `x-streamgauge-`.
            AnyOwn,
        }

        const NAMES: &[&str] = &[$($name),*];
        const KNOWN: &[KnownName] = &[$(KnownName::$variant),*];
    };
}

// Some of these names decide nothing: SDKs and services send them with most messages, and a known
// name costs the filter of outbound headers one test of a bit.
known_names! {
    Accept = "accept";
    AcceptEncoding = "accept-encoding";
    AcceptLanguage = "accept-language";
    AcceptRanges = "accept-ranges";
    AltSvc = "alt-svc";
    AnthropicInputTokensRemaining = "anthropic-ratelimit-input-tokens-remaining";
    AnthropicOutputTokensRemaining = "anthropic-ratelimit-output-tokens-remaining";
    AnthropicRequestsRemaining = "anthropic-ratelimit-requests-remaining";
    AnthropicTokensRemaining = "anthropic-ratelimit-tokens-remaining";
    ApiKey = "api-key";
    ApimRequestId = "apim-request-id";
    Authorization = "authorization";
    AzureOpenaiDeploymentUtilization = "azure-openai-deployment-utilization";
    AzuremlModelSession = "azureml-model-session";
    CacheControl = "cache-control";
    CfCacheStatus = "cf-cache-status";
    CfRay = "cf-ray";
    Connection = "connection";
    ContentDigest = "content-digest";
    ContentEncoding = "content-encoding";
    ContentLength = "content-length";
    ContentMd5 = "content-md5";
    ContentType = "content-type";
    Cookie = "cookie";
    Date = "date";
    Digest = "digest";
    Etag = "etag";
    Expect = "expect";
    Host = "host";
    IdempotencyKey = "idempotency-key";
    KeepAlive = "keep-alive";
    Location = "location";
    OcpApimSubscriptionKey = "ocp-apim-subscription-key";
    OpenaiBeta = "openai-beta";
    OpenaiModel = "openai-model";
    OpenaiOrganization = "openai-organization";
    OpenaiProcessingMs = "openai-processing-ms";
    OpenaiProject = "openai-project";
    OpenaiVersion = "openai-version";
    Origin = "origin";
    Refresh = "refresh";
    ReprDigest = "repr-digest";
    RequestId = "request-id";
    RetryAfter = "retry-after";
    SecFetchSite = "sec-fetch-site";
    SecWebsocketExtensions = "sec-websocket-extensions";
    SecWebsocketKey = "sec-websocket-key";
    SecWebsocketProtocol = "sec-websocket-protocol";
    SecWebsocketVersion = "sec-websocket-version";
    Server = "server";
    SetCookie = "set-cookie";
    StrictTransportSecurity = "strict-transport-security";
    Te = "te";
    Traceparent = "traceparent";
    Tracestate = "tracestate";
    Trailer = "trailer";
    TransferEncoding = "transfer-encoding";
    Upgrade = "upgrade";
    UserAgent = "user-agent";
    Vary = "vary";
    XAccelBuffering = "x-accel-buffering";
    XApiKey = "x-api-key";
    XContentTypeOptions = "x-content-type-options";
    XEnvoyUpstreamServiceTime = "x-envoy-upstream-service-time";
    XGoogApiKey = "x-goog-api-key";
    XHttpMethod = "x-http-method";
    XHttpMethodOverride = "x-http-method-override";
    XMethodOverride = "x-method-override";
    XMsClientRequestId = "x-ms-client-request-id";
    XMsDeploymentName = "x-ms-deployment-name";
    XMsRaiInvoked = "x-ms-rai-invoked";
    XMsRegion = "x-ms-region";
    XMsRequestId = "x-ms-request-id";
    XOriginalUrl = "x-original-url";
    XRatelimitLimitRequests = "x-ratelimit-limit-requests";
    XRatelimitLimitTokens = "x-ratelimit-limit-tokens";
    XRatelimitRemainingRequests = "x-ratelimit-remaining-requests";
    XRatelimitRemainingTokens = "x-ratelimit-remaining-tokens";
    XRatelimitResetRequests = "x-ratelimit-reset-requests";
    XRatelimitResetTokens = "x-ratelimit-reset-tokens";
    XRequestId = "x-request-id";
    XRewriteUrl = "x-rewrite-url";
    XShouldRetry = "x-should-retry";
    XStainlessArch = "x-stainless-arch";
    XStainlessAsync = "x-stainless-async";
    XStainlessLang = "x-stainless-lang";
    XStainlessOs = "x-stainless-os";
    XStainlessPackageVersion = "x-stainless-package-version";
    XStainlessReadTimeout = "x-stainless-read-timeout";
    XStainlessRetryCount = "x-stainless-retry-count";
    XStainlessRuntime = "x-stainless-runtime";
    XStainlessRuntimeVersion = "x-stainless-runtime-version";
    XStainlessTimeout = "x-stainless-timeout";
    XStreamgaugeId = "x-streamgauge-id";
    XStreamgaugeOnDisconnect = "x-streamgauge-on-disconnect";
}

/// The prefix of streamgauge's own names.
const OWN: &[u8] = b"x-streamgauge-";

const PROXY: &[u8] = b"proxy-";

impl KnownName {
    /// The number of variants.
    pub(super) const COUNT: usize = NAMES.len() + 2;

    /// All names, without the two families.
    pub const ALL: &'static [Self] = KNOWN;

    /// Recognizes a name in any case. All of its bytes are then valid, except for those behind the
    /// prefix of a family.
    #[inline]
    pub fn of(name: &[u8]) -> Option<Self> {
        let index = usize::from(PLACES[place(name)]);
        if let Some(known) = NAMES.get(index)
            && is_same(name, known.as_bytes())
        {
            return Some(KNOWN[index]);
        }
        match name.first() {
            Some(b'p' | b'P') if begins_with(name, PROXY) => Some(Self::AnyProxy),
            Some(b'x' | b'X') if begins_with(name, OWN) => Some(Self::AnyOwn),
            _ => None,
        }
    }

    /// Returns true if this is a family, of which only the prefix is known.
    pub(in crate::codec) const fn is_family(self) -> bool {
        matches!(self, Self::AnyProxy | Self::AnyOwn)
    }

    /// The name in lower case; the prefix of a family.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnyProxy => "proxy-",
            Self::AnyOwn => "x-streamgauge-",
            known => NAMES[known as usize],
        }
    }
}

fn begins_with(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|start| is_same(start, prefix))
}

/// Compares any bytes with a name in lower case, which has letters, digits and hyphens. Reads eight
/// bytes at a time; a byte may differ in the bit of the case if the other is a letter.
#[inline]
fn is_same(name: &[u8], lower: &[u8]) -> bool {
    const CASE: u64 = u64::from_ne_bytes([0x20; 8]);
    if name.len() != lower.len() {
        return false;
    }
    // Letters have this bit of the two; digits and hyphens do not.
    let case_of_letters = |lower: u64| (lower >> 1) & CASE;
    let differing = |word: u64, lower: u64| (word ^ lower) & !case_of_letters(lower);
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    let (Some(last), Some(last_lower)) = (name.last_chunk(), lower.last_chunk()) else {
        let mut bytes = name.iter().zip(lower);
        return bytes.all(|(byte, lower)| differing(u64::from(*byte), u64::from(*lower)) == 0);
    };
    // The last word overlaps the one before it.
    let mut found = differing(word(last), word(last_lower));
    let (mut name, mut lower) = (name, lower);
    while let (Some((bytes, name_rest)), Some((bytes_lower, lower_rest))) =
        (name.split_first_chunk(), lower.split_first_chunk())
    {
        found |= differing(word(bytes), word(bytes_lower));
        (name, lower) = (name_rest, lower_rest);
    }
    found == 0
}

/// The hash of a name: its length and three of its letters, in either case.
const fn place(name: &[u8]) -> usize {
    let [first, .., last] = name else { return 0 };
    let middle = name[name.len() / 2];
    (name.len() * 21 + letter(*first) * 16 + letter(middle) * 8 + letter(*last)) % PLACE_COUNT
}

const fn letter(byte: u8) -> usize {
    (byte | 0x20) as usize
}

const PLACE_COUNT: usize = 512;

const NO_NAME: u8 = u8::MAX;

/// The index of the known name that has each place.
static PLACES: [u8; PLACE_COUNT] = {
    let mut places = [NO_NAME; PLACE_COUNT];
    let mut index = 0;
    while index < NAMES.len() {
        let place = place(NAMES[index].as_bytes());
        assert!(places[place] == NO_NAME, "two names at one place: choose other factors");
        places[place] = index as u8;
        index += 1;
    }
    places
};

/// A set of known names, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameSet(u128);

impl NameSet {
    pub const fn of(names: &[KnownName]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < names.len() {
            bits |= 1 << names[index] as u8;
            index += 1;
        }
        Self(bits)
    }

    #[inline]
    pub const fn has(self, name: KnownName) -> bool {
        self.0 >> (name as u8) & 1 == 1
    }

    #[inline]
    pub const fn has_any_of(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub fn add(&mut self, name: KnownName) {
        self.0 |= 1 << name as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_recognized_in_any_case() {
        for (name, known) in NAMES.iter().zip(KNOWN) {
            assert_eq!(known.as_str(), *name);
            let mixed = name
                .char_indices()
                .map(|(at, letter)| if at % 2 == 0 { letter.to_ascii_uppercase() } else { letter });
            for written in [name.to_string(), name.to_ascii_uppercase(), mixed.collect()] {
                assert_eq!(KnownName::of(written.as_bytes()), Some(*known), "{written}");
            }
        }
    }

    #[test]
    fn names_are_recognized_as_a_plain_search_does() {
        let naive = |name: &[u8]| {
            let lower = String::from_utf8(name.to_ascii_lowercase()).unwrap();
            let known = NAMES.iter().position(|known| **known == *lower).map(|index| KNOWN[index]);
            let own = lower.starts_with("x-streamgauge-").then_some(KnownName::AnyOwn);
            known.or(own).or_else(|| lower.starts_with("proxy-").then_some(KnownName::AnyProxy))
        };
        let mut tried =
            vec![b"proxy-x".to_vec(), b"Proxy-".to_vec(), b"X-Streamgauge-New".to_vec(), b"proxy".to_vec()];
        for name in NAMES {
            for at in 0..name.len() {
                for byte in 0..=127 {
                    let mut other = name.as_bytes().to_vec();
                    other[at] = byte;
                    tried.push(other);
                }
                tried.push(name.as_bytes()[..at.max(1)].to_vec());
            }
        }
        for name in tried {
            assert_eq!(KnownName::of(&name), naive(&name), "{}", String::from_utf8_lossy(&name));
        }
    }

    #[test]
    fn set_of_names_has_those_that_were_added() {
        let mut set = NameSet::of(&[KnownName::Accept, KnownName::AnyOwn]);
        assert!(set.has(KnownName::Accept) && set.has(KnownName::AnyOwn) && !set.has(KnownName::Host));
        set.add(KnownName::Host);
        assert_eq!(set, NameSet::of(&[KnownName::Accept, KnownName::AnyOwn, KnownName::Host]));
        assert!(set.has_any_of(NameSet::of(&[KnownName::Host, KnownName::Te])));
        assert!(!set.has_any_of(NameSet::of(&[KnownName::Te])));
    }
}
