// Keeps the dashboard up to date. The page works without it.
//
// The server reports changes (/live, server-sent events): running streams and members of groups as rendered HTML, and the number of records, whereupon
// the script reads the page again and replaces its parts. Reading takes a small share of the time at most.
"use strict";

(() => {
  const state = document.getElementById("state");
  const pause = document.getElementById("pause");
  const running = document.getElementById("running");
  const members = document.getElementById("members");
  const kept = (page) => page.getElementById("content").dataset.kept; // the number of records when it was read
  let has = kept(document);
  let told = 0; // the number of records now
  const LEAST_PAUSE = 2000; // the shortest pause between two readings, in ms
  const TIMES_AS_LONG = 10; // a pause is this many times as long as the last reading
  const UNTOLD = 30000; // the time in ms after which the page is read again without a report
  let source = null;
  let paused = false;
  let reading = false;
  let wanted = false;
  let next = 0;
  let timer = 0;

  function say(text, kind) {
    if (state.textContent !== text) state.textContent = text;
    document.body.dataset.state = kind;
  }

  // Replaces the children if they differ; keeps the unfolded, scrolled and focused parts.
  function replace(old, fresh) {
    if (old.innerHTML === fresh.innerHTML) return;
    const open = new Set([...old.querySelectorAll("details[open][id]")].map((each) => each.id));
    const scrolled = [...old.querySelectorAll(".scroll[id]")].map((each) => [each.id, each.scrollLeft]);
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const key = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.getAttribute("href") && `a[href="${CSS.escape(focused.getAttribute("href"))}"]`);
    const box = focused && focused.closest("[id]");
    old.replaceChildren(...fresh.childNodes);
    for (const id of open) old.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
    for (const [id, left] of scrolled) {
      const again = old.querySelector(`#${CSS.escape(id)}`);
      if (again) again.scrollLeft = left;
    }
    if (focused) {
      const around = (box && old.querySelector(`#${CSS.escape(box.id)}`)) || old;
      const again = (key && (around.querySelector(key) || old.querySelector(key))) || around.querySelector("summary, a, .scroll");
      again?.focus({ preventScroll: true });
    }
  }

  function parse(html) {
    return new DOMParser().parseFromString(html, "text/html");
  }

  // Content that is too wide can be focused and scrolled with the keyboard.
  function reachable() {
    for (const box of document.querySelectorAll(".scroll")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }

  async function read() {
    if (paused || reading) {
      wanted ||= reading;
      return;
    }
    reading = true;
    wanted = false;
    const begun = performance.now();
    document.body.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
      if (response.status === 401) return location.reload();
      const fresh = parse(await response.text());
      for (const old of document.querySelectorAll("[data-part]")) {
        const part = fresh.getElementById(old.id);
        if (part && !paused) replace(old, part);
      }
      reachable();
      has = kept(fresh) ?? has;
      // The server may have kept this page from an earlier reading.
      wanted ||= Number(has) < told;
      say(response.ok ? "Live" : "The numbers cannot be read; trying again", response.ok ? "live" : "failed");
    } catch {
      say("The proxy does not respond; trying again", "failed");
    } finally {
      reading = false;
      document.body.removeAttribute("aria-busy");
      const took = performance.now() - begun;
      next = performance.now() + Math.max(LEAST_PAUSE, TIMES_AS_LONG * took);
      schedule(wanted ? 0 : UNTOLD);
    }
  }

  function schedule(soon) {
    clearTimeout(timer);
    timer = setTimeout(read, Math.max(soon, next - performance.now()));
  }

  function watch() {
    source = new EventSource(has === undefined ? "live" : `live?since=${has}`);
    source.onopen = () => say("Live", "live");
    source.addEventListener("running", (event) => {
      const fresh = parse(event.data).body;
      if (!paused) replace(running, fresh);
      reachable();
    });
    source.addEventListener("members", (event) => {
      const fresh = parse(event.data).body;
      if (!paused) {
        replace(members, fresh);
        members.hidden = members.childElementCount === 0;
      }
      reachable();
    });
    source.addEventListener("records", (event) => {
      told = Number(event.data);
      if (reading) wanted = true;
      else schedule(0);
    });
    source.onerror = () => {
      say("The connection is lost; trying again", "failed");
      // An HTTP error ends the events for good; a broken connection does not.
      if (source.readyState === EventSource.CLOSED) {
        setTimeout(() => paused || (source.close(), watch()), 10000);
        schedule(0);
      }
    };
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume updates" : "Pause updates";
    clearTimeout(timer);
    source.close();
    if (paused) {
      say("Paused", "paused");
    } else {
      watch();
      schedule(0);
    }
  });
  addEventListener("resize", reachable);
  // A hidden page requests nothing.
  document.addEventListener("visibilitychange", () => {
    if (paused) return;
    clearTimeout(timer);
    source.close();
    if (!document.hidden) {
      watch();
      schedule(0);
    }
  });
  reachable();
  watch();
  schedule(UNTOLD);
})();
