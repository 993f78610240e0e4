// Keys, a thumb on the floor, and buttons: all of them give directions.

const KEYS = {
  ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right",
  KeyW: "up", KeyS: "down", KeyA: "left", KeyD: "right", Space: "stop",
};
const SWIPE = 18; // pixels that a thumb moves for a new direction

// Calls `steer(heading)`; returns whether it was of use, so that keys keep their meaning elsewhere.
export function watchControls({ stage, pad, steer }) {
  addEventListener("keydown", (event) => {
    const heading = KEYS[event.code];
    const isTyping = event.target.closest("input, textarea, button") && event.code === "Space";
    if (!heading || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input")) return;
    if (!steer(heading)) return;
    event.preventDefault();
    if (event.target.matches("button")) event.target.blur(); // the hands are on the keys now
  });

  let anchor = null;
  stage.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button, input")) return;
    anchor = { x: event.clientX, y: event.clientY };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!anchor) return;
    const [x, y] = [event.clientX - anchor.x, event.clientY - anchor.y];
    if (Math.hypot(x, y) < SWIPE) return;
    anchor = { x: event.clientX, y: event.clientY };
    steer(Math.abs(x) > Math.abs(y) ? (x > 0 ? "right" : "left") : (y > 0 ? "down" : "up"));
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { anchor = null; });

  pad.addEventListener("pointerdown", (event) => {
    const { heading } = event.target.dataset;
    if (!heading) return;
    event.preventDefault();
    steer(heading);
  });
}
