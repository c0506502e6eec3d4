// The admin API, under this session.

const meta = (name) => document.querySelector(`meta[name="portcullis-${name}"]`)?.content ?? "";

export const ME = JSON.parse(meta("me") || "{}");
export const may = (access) => ME.may.includes(access);
const API = "/console/api/v1";

// Not randomUUID: browsers have that only where the page came by https.
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function signIn() {
  location.assign(`/console/sign-in?next=${ME.page}`);
}

// What came back: {ok, status, body}. Where nothing did, status is 0 and the body says so.
export async function call(method, path, body, { key = newKey(), headers = {} } = {}) {
  const changing = method !== "GET";
  const sent = { method, headers: { ...headers }, credentials: "same-origin", cache: "no-store" };
  if (changing) sent.headers["Portcullis-Console"] = meta("csrf");
  if (method === "POST") sent.headers["Idempotency-Key"] = key;
  if (body !== undefined) {
    sent.body = JSON.stringify(body);
    sent.headers["Content-Type"] = "application/json";
  }
  let response, answer;
  try {
    response = await fetch(path.startsWith("/console/") ? path : API + path, sent);
    answer = await response.json();
  } catch {
    return { ok: false, status: 0, body: { title: "The gateway did not answer", detail: changing
      ? "So it is not known whether this was done. Press again: the same request is never done twice."
      : "Trying again may help." } };
  }
  if (response.status === 401) signIn();
  return { ok: response.ok, status: response.status, body: answer, etag: response.headers.get("ETag") };
}

export const get = (path) => call("GET", path);

// Nothing with a slash or a blank in it may become part of a path unseen.
export const part = encodeURIComponent;
