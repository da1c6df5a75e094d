// live
import { h, replace } from "../lib/dom.js";
import { t } from "../lib/text.js";

export async function mount(root) {
  replace(root, h("h1", {}, t("app.nav_live")));
}
