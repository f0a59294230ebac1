// Starts the page: asks for the status every second, and for a token when the application wants one.

import { call, Refused, useToken } from "./api.js";
import { listen, showScenes } from "./ask.js";
import { showStatus } from "./live.js";

const INTERVAL_MS = 1000;
const state = document.getElementById("state");
const credentials = document.getElementById("credentials");
let running = 0;

/** Poll until another run begins or a token is needed. */
async function run() {
  running += 1;
  for (const mine = running; mine === running; ) {
    try {
      const status = await call("v1/status");
      credentials.hidden = true;
      show(`model ${status.model_version}, policy ${status.policy}`);
      showScenes(status.scenes);
      showStatus(status);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      show(error.message, true);
      if (error.status === 401) return askForToken();
    }
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
  }
}

function askForToken() {
  credentials.hidden = false;
  document.getElementById("token").focus();
}

function show(text, bad = false) {
  if (state.textContent !== text) state.textContent = text;
  state.className = bad ? "bad" : "";
}

credentials.addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(document.getElementById("token").value);
  document.getElementById("token").value = "";
  run();
});
listen();
run();
