/** Requests to the server: retries, one kind of error, and the API key if the server requires one. */

/** Base URL of all requests: the folder above this file, on the host that served it. */
const SERVER = new URL("..", import.meta.url);

const KEY = "api-key";

/** Number of retries after status 503; the header Retry-After gives the interval. */
const RETRIES = 3;

/** A refused or failed request; the message gives the reason. */
export class Refused extends Error {
  /** @param {number} status HTTP status; 0 if there was no response */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Send a request and read the response as JSON; with a body, an object or a form, it is a POST. */
export async function ask(path, body, signal) {
  const response = await request(path, body, signal);
  const answer = await connected(response.json());
  signal?.throwIfAborted(); // cancelled while the last bytes arrived
  return answer;
}

/** Send a request and return the response as soon as its head has arrived. */
export async function request(path, body, signal) {
  for (let attempt = 0; ; attempt++) {
    const key = sessionStorage.getItem(KEY);
    const response = await send(path, body, key, signal);
    if (response.ok) return response;
    const why = await reason(response); // always read the body: an unread response blocks its connection
    if (response.status === 401) await newKey(key);
    else if (response.status === 503 && attempt < RETRIES) await pause(response.headers.get("Retry-After"), signal);
    else throw new Refused(response.status, why);
  }
}

/**
 * Return a function that processes one argument at a time. Of the arguments that arrive meanwhile, the last is kept.
 * `cancel` aborts the current call and discards the waiting argument.
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

/** Wait for network data; a failed connection becomes a `Refused` with a readable message. */
export async function connected(arriving) {
  try {
    return await arriving;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer. Start it again, then retry.");
  }
}

function send(path, body, key, signal) {
  const json = body && !(body instanceof FormData); // the browser sets the content type of a form
  const headers = { ...(json && { "Content-Type": "application/json" }), ...(key && { "X-API-Key": key }) };
  const options = { method: body ? "POST" : "GET", headers, body: json ? JSON.stringify(body) : body, signal };
  return connected(fetch(new URL(path, SERVER), options));
}

/** The reason in an error response; a proxy may answer in another format. */
async function reason(response) {
  const answer = await response.json().catch(() => null);
  return answer?.detail ?? `The server returned ${response.status} ${response.statusText}`.trim();
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(new DOMException("cancelled", "AbortError"));
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
    setTimeout(resolve, 1000 * (Number(seconds) || 1));
  });
}

// The API key is requested once, by a dialog that all waiting requests share, and stored until the tab is closed.

let asking = null;

async function newKey(refused) {
  if (sessionStorage.getItem(KEY) !== refused) return; // another request has already obtained the key
  asking ??= fromDialog(refused !== null).finally(() => (asking = null));
  const key = await asking;
  if (!key) throw new Refused(401, "This server requires an API key.");
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
