//! What the local rules look for. Words are lower case, without hyphens, and count at the beginning of a
//! word of the policy.

use super::PolicyType;

/// Something a policy should speak of.
pub(super) struct Clause {
    /// What, as the end of "it speaks of ..".
    pub(super) about: &'static str,
    /// Any of these shows that it does.
    pub(super) words: &'static [&'static str],
    /// What to do if it does not.
    pub(super) suggestion: &'static str,
}

/// Something a policy had better not say.
pub(super) struct Risk {
    /// Any of these shows that it does.
    pub(super) words: &'static [&'static str],
    /// Why that is a risk.
    pub(super) says: &'static str,
}

/// What a policy of that type should speak of.
pub(super) const fn clauses(policy_type: PolicyType) -> &'static [Clause] {
    match policy_type {
        PolicyType::Return => RETURN,
        PolicyType::Privacy => PRIVACY,
        PolicyType::Shipping => SHIPPING,
        PolicyType::Terms => TERMS,
        PolicyType::Other => OTHER,
    }
}

const fn clause(about: &'static str, words: &'static [&'static str], suggestion: &'static str) -> Clause {
    Clause { about, words, suggestion }
}

const CONTACT: Clause = clause(
    "how to reach the shop",
    &["contact us", "email", "e mail", "phone", "write to us", "customer service", "call us"],
    "Name an address, an email or a phone number for questions.",
);

const CHANGES: Clause = clause(
    "when it took effect or how it changes",
    &["last updated", "effective date", "effective from", "valid from", "we may change", "changes to this"],
    "State the date it took effect and how changes are announced.",
);

const RETURN: &[Clause] = &[
    clause(
        "the time limit for returns",
        &[
            "within 7",
            "within 14",
            "within 28",
            "within 30",
            "within 60",
            "within 90",
            "within 100",
            "days of",
            "days after",
            "days from",
        ],
        "Say within how many days, counted from which day, an item may come back.",
    ),
    clause(
        "the condition an item must be in",
        &["unused", "unworn", "original condition", "original packaging", "undamaged", "unopened"],
        "Describe the condition in which an item is accepted.",
    ),
    clause(
        "how the money is paid back",
        &[
            "original payment",
            "refund to",
            "refunded to",
            "refund is paid",
            "refunds are paid",
            "same payment",
            "same way you paid",
        ],
        "Say in which way a refund is paid.",
    ),
    clause(
        "how long a refund takes",
        &["business days", "working days", "refund within", "refunded within"],
        "Say within how many days a refund arrives.",
    ),
    clause(
        "who pays for sending an item back",
        &[
            "return shipping",
            "return postage",
            "cost of return",
            "costs of return",
            "prepaid label",
            "free returns",
        ],
        "Say who pays the return shipping, also for faulty items.",
    ),
    clause(
        "what cannot be returned",
        &["cannot be returned", "non returnable", "not returnable", "final sale", "excluded from return"],
        "List the goods that cannot be returned.",
    ),
    clause(
        "faulty or wrong items",
        &["faulty", "defective", "damaged on arrival", "arrived damaged", "wrong item"],
        "Add what happens with faulty, damaged or wrong items.",
    ),
    clause("exchanges", &["exchange"], "Say whether an item can be exchanged, and how."),
    clause(
        "the customer's statutory rights",
        &["statutory", "legal rights", "right of withdrawal", "consumer rights", "consumer law"],
        "Add that statutory rights are not affected.",
    ),
    CONTACT,
];

const PRIVACY: &[Clause] = &[
    clause(
        "which data is collected",
        &["we collect", "information collected", "data we process", "personal data", "personal information"],
        "List the data that is collected.",
    ),
    clause(
        "what the data is used for",
        &["we use your", "purpose", "use the information", "use this information"],
        "State the purpose of each use.",
    ),
    clause(
        "the legal basis",
        &["legal basis", "legitimate interest", "lawful basis", "your consent"],
        "Name the legal basis of each use.",
    ),
    clause(
        "who else gets the data",
        &["third part", "share your", "processors", "service providers", "disclose"],
        "Name who receives data, or the groups of them.",
    ),
    clause(
        "how long data is kept",
        &["retention", "retain", "how long we keep", "we keep your", "is deleted after", "are deleted after"],
        "State how long each kind of data is kept.",
    ),
    clause(
        "a person's rights",
        &[
            "right to access",
            "right of access",
            "right to erasure",
            "right to object",
            "your rights",
            "delete your data",
        ],
        "Explain the rights to access, correct and delete data, and how to use them.",
    ),
    clause(
        "cookies and tracking",
        &["cookie", "tracking"],
        "Say which cookies are set and how to refuse them.",
    ),
    clause("how data is protected", &["security", "encrypt", "safeguard"], "Describe how data is protected."),
    clause(
        "transfers to other countries",
        &[
            "transfer outside",
            "international transfer",
            "other countries",
            "third countr",
            "outside the eu",
            "outside the european",
        ],
        "Say whether data leaves the country, and under which guarantees.",
    ),
    CONTACT,
    CHANGES,
];

const SHIPPING: &[Clause] = &[
    clause(
        "where it delivers",
        &["we ship to", "we deliver to", "countries", "worldwide", "domestic", "international"],
        "List the countries or regions that are served.",
    ),
    clause(
        "how long delivery takes",
        &["business days", "working days", "delivery time", "delivered within", "arrives within"],
        "Give a delivery time for each region and service.",
    ),
    clause(
        "how soon an order leaves",
        &["processing time", "dispatch", "handling time", "shipped within", "leaves our"],
        "Say how soon an order is handed to the carrier.",
    ),
    clause(
        "what shipping costs",
        &[
            "shipping cost",
            "shipping fee",
            "free shipping",
            "delivery charge",
            "delivery fee",
            "flat rate",
            "postage",
        ],
        "State the cost, and from which amount on it is free.",
    ),
    clause("tracking", &["tracking", "track your"], "Say whether and how a parcel can be tracked."),
    clause(
        "lost or damaged parcels",
        &[
            "lost parcel",
            "lost package",
            "lost in",
            "damaged in",
            "damaged parcel",
            "arrived damaged",
            "does not arrive",
        ],
        "Add what happens when a parcel is lost or damaged.",
    ),
    clause("customs and duties", &["customs", "duties", "import tax"], "Say who pays customs and duties."),
    clause(
        "wrong addresses and failed deliveries",
        &["incorrect address", "wrong address", "undeliverable", "failed delivery", "returned to sender"],
        "Say what happens when a parcel cannot be delivered.",
    ),
    clause(
        "the carriers",
        &["carrier", "courier", "dhl", "ups", "fedex", "royal mail"],
        "Name the carriers.",
    ),
    CONTACT,
];

const TERMS: &[Clause] = &[
    clause(
        "who offers the service",
        &["registered office", "company number", "operated by", "\"we\"", "limited company", "registered in"],
        "Name the company behind the shop, with its address.",
    ),
    clause(
        "how a contract comes about",
        &["contract", "order confirmation", "accept your order", "acceptance"],
        "Say when an order becomes a contract.",
    ),
    clause("prices and payment", &["price", "payment"], "State prices, taxes and ways to pay."),
    clause(
        "liability",
        &["liability", "liable"],
        "Limit liability as far as the law allows, and name what is not limited.",
    ),
    clause("warranty", &["warrant", "guarantee"], "Say which warranty applies."),
    clause(
        "termination",
        &["terminat", "suspend", "close your account"],
        "Say how either side can end the agreement.",
    ),
    clause(
        "intellectual property",
        &["intellectual property", "copyright", "trademark"],
        "Say who owns the contents.",
    ),
    clause(
        "the law that applies",
        &["governing law", "governed by", "jurisdiction", "applicable law"],
        "Name the law and the courts that apply.",
    ),
    clause(
        "how disputes are settled",
        &["dispute", "arbitration", "mediation", "ombudsman"],
        "Describe how disputes are settled.",
    ),
    CONTACT,
    CHANGES,
];

const OTHER: &[Clause] = &[
    clause(
        "whom it applies to",
        &["applies to", "scope", "this policy covers"],
        "Say whom and what it applies to.",
    ),
    clause("who is responsible", &["responsib", "accountable"], "Name who is responsible for what."),
    clause("deadlines", &["within", "days", "deadline"], "Give deadlines for each step."),
    clause("exceptions", &["except", "does not apply", "exclu"], "List the exceptions."),
    clause("complaints", &["complain", "dispute", "appeal"], "Say how to complain and what happens then."),
    CONTACT,
    CHANGES,
];

/// What no policy should say, whatever it is about.
pub(super) const RISKS: &[Risk] = &[
    Risk {
        words: &["sole discretion", "our discretion"],
        says: "It decides at its own discretion, which a court may not accept.",
    },
    Risk {
        words: &["without notice", "without prior notice", "at any time for any reason"],
        says: "It reserves changes without notice.",
    },
    Risk {
        words: &["no refunds", "never refund", "all sales are final"],
        says: "It rules out refunds, which consumer law often does not allow.",
    },
    Risk {
        words: &["store credit only", "credit note only", "only as store credit", "only in store credit"],
        says: "It refunds by store credit only.",
    },
    Risk {
        words: &["restocking fee"],
        says: "It charges a restocking fee, which may not be lawful for consumers.",
    },
    Risk {
        words: &["as is"],
        says: "It offers goods or services \"as is\", which does not hold for consumers.",
    },
    Risk {
        words: &[
            "not responsible for",
            "not liable for any",
            "accept no liability",
            "accept no responsibility",
        ],
        says: "It excludes liability as a whole.",
    },
    Risk {
        words: &["sell your data", "sell your personal", "sell personal"],
        says: "It sells personal data.",
    },
    Risk {
        words: &["may take longer", "reasonable time", "as soon as possible"],
        says: "It gives vague times instead of deadlines.",
    },
];
