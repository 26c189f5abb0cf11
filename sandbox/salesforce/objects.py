"""The objects that every org of the sandbox has, with their standard fields.

Lengths and types are those of the object reference. Custom fields are a handful of every kind that
a synchronisation has to tell apart; a test adds its own by `POST /_sandbox/fields`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sandbox.salesforce.fields import Field

SALUTATIONS = ("Mr.", "Ms.", "Mrs.", "Dr.", "Prof.", "Mx.")
LEAD_SOURCES = ("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other")
LEAD_STATUSES = (
    "Open - Not Contacted",
    "Working - Contacted",
    "Closed - Converted",
    "Closed - Not Converted",
)
MEMBER_STATUSES = ("Sent", "Responded")
ADDRESS_PARTS = (
    *(("Street", "textarea", 255), ("City", "string", 40), ("State", "string", 80)),
    *(("PostalCode", "string", 20), ("Country", "string", 80)),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """An object: its name in the API, its words, its fields by name, and what may be done to it."""

    name: str
    label: str
    plural: str
    fields: tuple[Field, ...]
    is_writable: bool = True
    is_mergeable: bool = False
    has_bin: bool = True  # Whether IsDeleted is a field and queryAll finds what was deleted.


def _field(name: str, label: str, kind: str, length: int = 0, **more: Any) -> Field:
    if kind == "boolean":
        more = {"nillable": False, "defaulted": True, **more}
    if kind in {"double", "currency"}:
        more = {"precision": 18, "scale": 2, **more}
    if kind == "textarea" and length > 255:
        more = {"filterable": False, "sortable": False, **more}
    return Field(name=name, label=label, type=kind, length=length, **more)


def _fixed(name: str, label: str, kind: str, length: int = 0, **more: Any) -> Field:
    """Return a field that nobody writes."""
    return _field(name, label, kind, length, createable=False, updateable=False, **more)


def _reference(name: str, label: str, target: str, **more: Any) -> Field:
    relationship = name.removesuffix("Id")
    more = {"refers_to": (target,), "relationship": relationship, **more}
    return _field(name, label, "reference", 18, **more)


def _system(*, has_bin: bool = True) -> list[Field]:
    """Return the fields that Salesforce itself keeps, of every object."""
    kept: dict[str, Any] = {"nillable": False, "defaulted": True}
    users: dict[str, Any] = {"createable": False, "updateable": False, **kept}
    deleted = [_fixed("IsDeleted", "Deleted", "boolean")] if has_bin else []
    return [
        *deleted,
        _fixed("CreatedDate", "Created Date", "datetime", **kept),
        _reference("CreatedById", "Created By ID", "User", **users),
        _fixed("LastModifiedDate", "Last Modified Date", "datetime", **kept),
        _reference("LastModifiedById", "Last Modified By ID", "User", **users),
        _fixed("SystemModstamp", "System Modstamp", "datetime", **kept),
    ]


def _id(object_name: str) -> Field:
    kept: dict[str, Any] = {"nillable": False, "defaulted": True}
    return _fixed("Id", f"{object_name} ID", "id", 18, **kept)


def _master(object_name: str) -> Field:
    """Return what says, of a record that was merged away, which one has survived it."""
    fixed: dict[str, Any] = {"createable": False, "updateable": False}
    return _reference("MasterRecordId", "Master Record ID", object_name, **fixed)


def _owner() -> Field:
    return _reference("OwnerId", "Owner ID", "User", nillable=False, defaulted=True)


def _address(prefix: str, label: str) -> list[Field]:
    whole = f"{prefix}Address"
    parts = [
        _field(f"{prefix}{part}", f"{label} {part}".strip(), kind, length, compound=whole)
        for part, kind, length in ADDRESS_PARTS
    ]
    label = f"{label} Address".strip()
    return [*parts, _fixed(whole, label, "address", filterable=False, sortable=False)]


def _person(object_name: str) -> list[Field]:
    """Return what contacts and leads both have."""
    return [
        _master(object_name),
        _field("LastName", "Last Name", "string", 80, nillable=False, compound="Name"),
        _field("FirstName", "First Name", "string", 40, compound="Name"),
        _field("Salutation", "Salutation", "picklist", 40, options=SALUTATIONS, compound="Name"),
        _fixed("Name", "Full Name", "string", 121, nillable=False),
        _field("Title", "Title", "string", 128),
        _field("Phone", "Business Phone", "phone", 40),
        _field("MobilePhone", "Mobile Phone", "phone", 40),
        _field("Fax", "Business Fax", "phone", 40),
        _field("Email", "Email", "email", 80),
        _field("Description", "Description", "textarea", 32_000),
        _field("LeadSource", "Lead Source", "picklist", 255, options=LEAD_SOURCES),
        _owner(),
        _field("HasOptedOutOfEmail", "Email Opt Out", "boolean"),
        _field("HasOptedOutOfFax", "Fax Opt Out", "boolean"),
        _field("DoNotCall", "Do Not Call", "boolean"),
        _field("EmailBouncedReason", "Email Bounced Reason", "string", 255),
        _field("EmailBouncedDate", "Email Bounced Date", "datetime"),
        _fixed("IsEmailBounced", "Is Email Bounced", "boolean"),
        _fixed("PhotoUrl", "Photo URL", "url", 255),
        _fixed("LastActivityDate", "Last Activity", "date"),
    ]


def _custom_ones(object_name: str) -> list[Field]:
    own: dict[str, Any] = {"custom": True}
    formula = 'FirstName & " of " & Account.Name' if object_name == "Contact" else None
    return [
        _field(
            *("External_Id__c", "External Id", "string", 40), unique=True, external_id=True, **own
        ),
        _field("Newsletter__c", "Newsletter", "boolean", **own),
        _field(
            *("Segment__c", "Segment", "picklist", 255),
            options=("Gold", "Silver", "Bronze"),
            restricted=True,
            **own,
        ),
        _field(
            *("Interests__c", "Interests", "multipicklist", 4099),
            options=("Music", "Sports", "Art"),
            restricted=True,
            **own,
        ),
        _field("Points__c", "Points", "double", **own),
        _field("Revenue__c", "Revenue", "currency", **own),
        _field("Anniversary__c", "Anniversary", "date", **own),
        _field("Last_Seen__c", "Last Seen", "datetime", **own),
        _fixed(
            *("Greeting__c", "Greeting", "string", 1300),
            calculated=True,
            formula=formula or 'FirstName & " of " & Company',
            **own,
        ),
        _fixed("Cases_Total__c", "Cases Total", "double", calculated=True, **own),
        _fixed("Member_Number__c", "Member Number", "string", 30, auto_number=True, **own),
    ]


CONTACT = Kind(
    "Contact",
    "Contact",
    "Contacts",
    (
        _id("Contact"),
        *_person("Contact"),
        _reference("AccountId", "Account ID", "Account"),
        _reference("ReportsToId", "Reports To ID", "Contact"),
        *_address("Mailing", "Mailing"),
        *_address("Other", "Other"),
        _field("HomePhone", "Home Phone", "phone", 40),
        _field("OtherPhone", "Other Phone", "phone", 40),
        _field("AssistantPhone", "Asst. Phone", "phone", 40),
        _field("AssistantName", "Assistant's Name", "string", 40),
        _field("Department", "Department", "string", 80),
        _field("Birthdate", "Birthdate", "date"),
        _fixed("IsPersonAccount", "Is Person Account", "boolean"),
        *_custom_ones("Contact"),
        *_system(),
    ),
    is_mergeable=True,
)
LEAD = Kind(
    "Lead",
    "Lead",
    "Leads",
    (
        _id("Lead"),
        *_person("Lead"),
        _field("Company", "Company", "string", 255, nillable=False),
        *_address("", ""),
        _field("Website", "Website", "url", 255),
        _field(
            *("Status", "Status", "picklist", 255),
            options=LEAD_STATUSES,
            default=LEAD_STATUSES[0],
            nillable=False,
            defaulted=True,
        ),
        _field("Industry", "Industry", "picklist", 255, options=("Banking", "Energy", "Retail")),
        _field("Rating", "Rating", "picklist", 255, options=("Hot", "Warm", "Cold")),
        _field("AnnualRevenue", "Annual Revenue", "currency"),
        _field("NumberOfEmployees", "Employees", "int", precision=8),
        _fixed("IsConverted", "Converted", "boolean"),
        _fixed("ConvertedDate", "Converted Date", "date"),
        *(
            replace(
                _reference(f"Converted{each}Id", f"Converted {each} ID", each),
                createable=False,
                updateable=False,
            )
            for each in ("Account", "Contact")
        ),
        *_custom_ones("Lead"),
        *_system(),
    ),
    is_mergeable=True,
)
CAMPAIGN = Kind(
    "Campaign",
    "Campaign",
    "Campaigns",
    (
        _id("Campaign"),
        _field("Name", "Name", "string", 80, nillable=False),
        _reference("ParentId", "Parent Campaign ID", "Campaign"),
        _field("Type", "Type", "picklist", 40, options=("Email", "Webinar", "Other")),
        _field(
            *("Status", "Status", "picklist", 40),
            options=("Planned", "In Progress", "Completed", "Aborted"),
            default="Planned",
        ),
        _field("StartDate", "Start Date", "date"),
        _field("EndDate", "End Date", "date"),
        _field("IsActive", "Active", "boolean"),
        _field("Description", "Description", "textarea", 32_000),
        *(
            _fixed(f"NumberOf{each}", f"{each} in Campaign", "int", precision=8, nillable=False)
            for each in ("Leads", "ConvertedLeads", "Contacts", "Responses")
        ),
        _owner(),
        *_system(),
    ),
)
CAMPAIGN_MEMBER = Kind(
    "CampaignMember",
    "Campaign Member",
    "Campaign Members",
    (
        _id("Campaign Member"),
        _reference("CampaignId", "Campaign ID", "Campaign", nillable=False, updateable=False),
        _reference("LeadId", "Lead ID", "Lead", updateable=False),
        _reference("ContactId", "Contact ID", "Contact", updateable=False),
        _field(*("Status", "Status", "picklist", 40), options=MEMBER_STATUSES, default="Sent"),
        _fixed("HasResponded", "Responded", "boolean"),
        _fixed("FirstRespondedDate", "First Responded Date", "date"),
        _fixed("Type", "Type", "picklist", 40, options=("Contact", "Lead")),
        _fixed("Name", "Name", "string", 121),
        _fixed("FirstName", "First Name", "string", 40),
        _fixed("LastName", "Last Name", "string", 80),
        _fixed("Email", "Email", "email", 80),
        _fixed("Phone", "Phone", "phone", 40),
        *_system(),
    ),
)
CASE = Kind(
    "Case",
    "Case",
    "Cases",
    (
        _id("Case"),
        _fixed("CaseNumber", "Case Number", "string", 30, nillable=False, auto_number=True),
        _reference("ContactId", "Contact ID", "Contact"),
        _reference("AccountId", "Account ID", "Account"),
        _field("Subject", "Subject", "string", 255),
        _field("Description", "Description", "textarea", 32_000),
        _field(
            *("Status", "Status", "picklist", 255),
            options=("New", "Working", "Closed"),
            default="New",
        ),
        _field("Origin", "Case Origin", "picklist", 255, options=("Phone", "Email", "Web")),
        _fixed("IsClosed", "Closed", "boolean"),
        _owner(),
        *_system(),
    ),
)
ACCOUNT = Kind(
    "Account",
    "Account",
    "Accounts",
    (
        _id("Account"),
        _master("Account"),
        _field("Name", "Account Name", "string", 255, nillable=False),
        _field("Type", "Account Type", "picklist", 255, options=("Prospect", "Customer")),
        _field("Phone", "Account Phone", "phone", 40),
        _field("Website", "Website", "url", 255),
        *_address("Billing", "Billing"),
        _owner(),
        *_system(),
    ),
    is_mergeable=True,
)
USER = Kind(
    "User",
    "User",
    "Users",
    (
        _id("User"),
        _field("Username", "Username", "string", 80, nillable=False),
        _field("LastName", "Last Name", "string", 80, nillable=False),
        _fixed("Name", "Full Name", "string", 121, nillable=False),
        _field("Email", "Email", "email", 128, nillable=False),
        _field("IsActive", "Active", "boolean"),
        *_system(has_bin=False),
    ),
    is_writable=False,
    has_bin=False,
)
ORGANIZATION = Kind(
    "Organization",
    "Organization",
    "Organizations",
    (
        _id("Organization"),
        _fixed("Name", "Name", "string", 80, nillable=False),
        _fixed("IsSandbox", "Is Sandbox", "boolean"),
        _fixed("OrganizationType", "Edition", "picklist", 40),
        _fixed("InstanceName", "Instance Name", "string", 5),
        *_system(has_bin=False),
    ),
    is_writable=False,
    has_bin=False,
)


def kinds() -> Iterable[Kind]:
    """Return every object of a new org."""
    return (CONTACT, LEAD, CAMPAIGN, CAMPAIGN_MEMBER, CASE, ACCOUNT, USER, ORGANIZATION)
