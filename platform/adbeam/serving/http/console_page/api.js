// Calls of the application: addresses relative to this page, credentials as the application asks for them.

const KEY = "adbeam-token";
const SCHEME = "adbeam-scheme";

/** Raised for every answer but 2xx; `status` is 0 when nothing answered. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function useToken(token) {
  sessionStorage.setItem(KEY, token);
}

/** The JSON of an answer, null for 204; raises Refused with the application's own words. `key` is one of an admin. */
export async function call(path, body, key) {
  let answer;
  try {
    answer = await fetch(new URL(path, document.baseURI), {
      method: body === undefined ? "GET" : "POST",
      headers: { ...credentials(), ...(key ? { Authorization: `Bearer ${key}` } : {}), ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
    });
  } catch {
    throw new Refused(0, "the endpoint does not answer");
  }
  if (answer.status === 204) return null;
  const text = await answer.text();
  if (answer.ok) return JSON.parse(text);
  if (answer.status === 401 && !key) sessionStorage.setItem(SCHEME, answer.headers.get("WWW-Authenticate") ?? "Bearer");
  throw new Refused(answer.status, detail(text) || `the endpoint answered ${answer.status}`);
}

function credentials() {
  const token = sessionStorage.getItem(KEY);
  if (!token) return {};
  const header = /^ApiKey header="(.+)"$/.exec(sessionStorage.getItem(SCHEME) ?? "");
  return header ? { [header[1]]: token } : { Authorization: `Bearer ${token}` };
}

function detail(text) {
  try {
    return JSON.parse(text).detail;
  } catch {
    return "";
  }
}
