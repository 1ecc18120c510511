/** The server's endpoints: one way to ask, one kind of error, and a key where the server wants one. */

/** Everything is asked of the host that served this file, under whatever path it lies. */
const SERVER = new URL("..", import.meta.url);

const KEY = "api-key";

/** How often a server that is busy is asked again, at the intervals that it names. */
const RETRIES = 3;

/** The server does not do what was asked; the message says why, in words for people. */
export class Refused extends Error {
  /** @param {number} status of the answer; 0 where there was none */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Ask and read the answer as JSON. A body makes it a POST. */
export async function ask(path, body, signal) {
  const response = await request(path, body, signal);
  const answer = await connected(response.json());
  signal?.throwIfAborted(); // it was cancelled while its last bytes arrived
  return answer;
}

/** Ask and give the response, whose body may still be on its way. */
export async function request(path, body, signal) {
  for (let attempt = 0; ; attempt++) {
    const key = sessionStorage.getItem(KEY);
    const response = await send(path, body, key, signal);
    if (response.ok) return response;
    const why = await reason(response); // read in any case: an answer that nobody reads keeps its connection
    if (response.status === 401) await newKey(key);
    else if (response.status === 503 && attempt < RETRIES) await pause(response.headers.get("Retry-After"), signal);
    else throw new Refused(response.status, why);
  }
}

/**
 * Make a function that works on the newest argument only: one at a time, and of what comes meanwhile just the last.
 * `cancel` aborts what is under way and forgets what waits.
 */
export function newest(work) {
  let waiting = [];
  let running = null;
  async function drain() {
    while (waiting.length) {
      const [argument] = waiting.splice(0);
      running = new AbortController();
      await work(argument, running.signal).catch((error) => {
        if (error.name !== "AbortError") reportError(error);
      });
    }
    running = null;
  }
  const take = (argument) => {
    waiting = [argument];
    if (!running) drain();
  };
  take.cancel = () => {
    waiting = [];
    running?.abort();
  };
  return take;
}

/** Wait for something that comes over the network; say so in words for people where the connection fails. */
export async function connected(arriving) {
  try {
    return await arriving;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer. It may have been stopped; once it is back, try again.");
  }
}

function send(path, body, key, signal) {
  const headers = { ...(body && { "Content-Type": "application/json" }), ...(key && { "X-API-Key": key }) };
  const options = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal };
  return connected(fetch(new URL(path, SERVER), options));
}

/** What the server says is wrong; what stands between it and us, a proxy say, may answer in another form. */
async function reason(response) {
  const answer = await response.json().catch(() => null);
  return answer?.detail ?? `The server answers ${response.status} ${response.statusText}`.trim();
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(new DOMException("cancelled", "AbortError"));
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
    setTimeout(resolve, 1000 * (Number(seconds) || 1));
  });
}

// The key: asked for once, by a dialog that every waiting request shares, and kept until the tab is closed.

let asking = null;

async function newKey(refused) {
  if (sessionStorage.getItem(KEY) !== refused) return; // another request has asked meanwhile
  asking ??= fromDialog(refused !== null).finally(() => (asking = null));
  const key = await asking;
  if (!key) throw new Refused(401, "This server answers only to those who have its key.");
  sessionStorage.setItem(KEY, key);
}

function fromDialog(wrong) {
  const dialog = document.getElementById("key-dialog");
  const [form, input] = [dialog.querySelector("form"), dialog.querySelector("input")];
  dialog.querySelector(".wrong").hidden = !wrong;
  input.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const finish = (key) => {
      dialog.onclose = form.onsubmit = null;
      dialog.close();
      resolve(key);
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      finish(event.submitter?.value === "cancel" ? "" : input.value.trim());
    };
    dialog.onclose = () => finish("");
  });
}
