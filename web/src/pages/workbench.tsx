import { render } from "preact";
import { Frame } from "./frame.tsx";
import { say } from "./notes.tsx";
import { place } from "./places.ts";
import "../tokens.css";
import "./frame.css";
import "./stream/stream.css";
import "./bench/bench.css";
import "./saved/saved.css";
import "./runs/runs.css";

addEventListener("unhandledrejection", ({ reason }) => {
  if (reason instanceof DOMException && reason.name === "AbortError") return;
  say(`Something went wrong in this page. ${reason instanceof Error ? reason.message : reason}`);
});

const page = document.getElementById("page")!;
page.replaceChildren();
render(<Frame />, page);
place.start();
