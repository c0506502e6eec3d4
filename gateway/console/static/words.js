// Conditions, changes and reasons, as sentences.

import { count, listed } from "./dom.js";

const NOUNS = {
  nationality: "nationality", latest_nationality: "latest nationality", permanent_residence: "permanent residence",
  legal_status: "legal status", org: "organisation", org_country: "organisation's country", caller: "caller", kind: "kind",
};
const TESTS = { any_of: "any of", all_of: "all of", none_of: "none of", subset_of: "nothing but" };

// "is a us-person", "has nationality CN or KP": what follows "who".
export function condition(value) {
  const [[form, inner]] = Object.entries(value).filter(([, each]) => each !== null && each !== undefined);
  switch (form) {
    case "everyone": return inner ? "is anyone" : "is nobody";
    case "term": return `is a ${inner}`;
    case "not": return inner.term ? `is not a ${inner.term}` : inner.everyone ? "is nobody" : `not: ${condition(inner)}`;
    case "all": return inner.map(condition).join(" and ");
    case "any": return inner.map(condition).join(" or ");
    default: return test(form, inner);
  }
}

function test(form, value) {
  const [[operator, values]] = Object.entries(value).filter(([, each]) => each !== null && each !== undefined);
  const noun = NOUNS[form] ?? form;
  const named = listed(values.map((each) => each.replace(/^group:/, "group ")), operator === "all_of" ? "and" : "or");
  if (operator === "any_of") return form === "caller" || form === "kind" ? `is ${form} ${named}` : `has ${noun} ${named}`;
  if (operator === "none_of") return `has no ${noun} of ${named}`;
  return `has ${noun} ${TESTS[operator] ?? operator} ${named}`;
}

export function directive(each) {
  const nobody = each.who.everyone;
  const who = nobody ? "everyone" : `whoever ${condition(each.who)}`;
  const except = (each.except ?? []).map((one) => `whoever ${condition(one)}`);
  return `${listed(each.models)} ${each.models.length === 1 ? "is" : "are"} denied to ${who}${except.length ? `, but not to ${listed(except, "or")}` : ""}`;
}

export const STATES = {
  draft: ["Draft", "draft", "It does nothing yet."],
  shadow: ["Shadow", "shadow", "Counted; nobody is denied."],
  in_force: ["In force", "off", "It denies."],
  lifted: ["Lifted", "lifted", "It is over, and kept as evidence."],
};

export const REASONS = {
  model_offline: "the model is offline",
  restricted: "a directive denies it",
  attribute_unknown: "a directive asks for something that is not known about the caller",
  unknown_model: "the catalog has no such model",
  model_unresolved: "it names no model, and one that it might run is denied",
  policy_stale: "the replica's lease had run out",
  unauthenticated: "the credential is nobody's",
  operation_not_listed: "the operation is not listed",
  malformed: "the request could not be read",
  upstream_unreachable: "the provider could not be reached",
  upstream_timeout: "the provider did not answer in time",
  overloaded: "the gateway or the provider was too busy",
  internal: "the gateway failed",
};

const ACTIONS = {
  offline: "took offline", release: "released", undo: "undid", online: "put online", change: "changed", approve: "approved",
  reject: "rejected", init: "began the policy", restore: "restored the policy", reseal: "signed everything anew",
  window_begins: "began the window of", window_ends: "ended the window of", attestation_ends: "ended the attestation of",
  "directive.put": "wrote", "directive.shadow": "put in shadow", "directive.in_force": "put in force", "directive.lifted": "lifted",
  "directive.delete": "deleted", "operator.put": "appointed", "operator.delete": "removed", "operator.token": "replaced the token of",
  "operator.vouch": "vouched for", "drill.offline": "took offline", "drill.online": "put online",
};

export const action = (entry) => ACTIONS[entry.action] ?? entry.action.replace(".", " ");

export function edit(each) {
  if (each.op === "state") return `${each.kind}/${each.id} becomes ${(each.body?.state ?? "").replace("_", " ")}`;
  if (each.op === "delete") return each.kind === "holds" ? `hold ${each.id} is released` : `${each.kind}/${each.id} is removed`;
  return `${each.kind}/${each.id} is written`;
}

export function order(orders, id) {
  const found = id && orders.get(id);
  return found ? `${found.authority}, ${found.reference}` : id;
}

export const callers = (told) => {
  const orgs = Object.entries(told.by_org ?? {}).map(([org, number]) => `${number} ${org === "no org" ? "of no organisation" : `of ${org}`}`);
  const plain = Object.keys(told.by_org ?? {}).every((org) => org === "no org");
  return count(told.total, "caller") + (orgs.length && !plain ? ` (${listed(orgs)})` : "");
};
